"""Lava Processes and their ProcessModels.

Each has a folder: process.py (ports and Vars) and models.py (behaviour).

Importing a Process imports Lava, through :mod:`pascal_nm.process_models.compat`; importing this
package does not.

===============================  ===================================================================
:mod:`~.analog.process`          ``AnalogInput``: injects the analog input
:mod:`~.pasc.process`            ``Pasc``: the PASC integrate-and-fire neuron
:mod:`~.max_pool.process`        ``MaxPool``: OR (or AND) of the spikes in a window
:mod:`~.linear.process`          ``Linear``: passes on sums
:mod:`~.readout.process`         ``Readout``: adds up, never fires
:mod:`~.synapse.process`         ``Synapse``: the synapses of any operator
:mod:`~.nir_node.process`        ``NirNode``: a node of another tool's NIR graph
:mod:`~.pasc_network.process`    ``PascNetwork``: a whole network as one Process
===============================  ===================================================================

Every port carries a leading batch axis. Time is Lava's: a spike that is sent in timestep t is
received by a synapse in t and reaches the target neuron in t + 1. Timesteps are counted from 0
(``time_step - 1``), as in :mod:`pascal_nm.simulation.schedule`.
"""
