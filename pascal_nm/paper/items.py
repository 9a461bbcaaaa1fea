"""Every numbered item of the paper, and its appendices.

Each has what it says, what is here, and the command or test that shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

_SAME = "same"
_CORRECTED = "corrected"
_DERIVED = "derived"
_APPROXIMATED = "approximated"
_CITED = "cited"
_OUT = "out of scope"

STATUSES = {
    _SAME: "the package does, or gives, what the paper says",
    _CORRECTED: "what is printed has a fault, and here it is right; the errata say where",
    _DERIVED: "the paper prints the terms, not the figure that is computed from them",
    _APPROXIMATED: "shown with smaller networks, or by an estimate in place of the paper's measurement",
    _CITED: "definitions, facts or results of others, taken as they are",
    _OUT: "not here, for the reason given",
}


@dataclass(frozen=True)
class Item:
    """One item of the paper.

    Attributes:
        name: as the paper calls it, ``Equation 4``.
        says: what it is about.
        here: what the package has of it.
        status: a key of :data:`STATUSES`.
        shown: commands, files and tests that show it; commands begin with ``pascal-nm``,
            ``python``, ``make`` or a script's path.
        why: the reason, where it differs.
    """

    name: str
    says: str
    here: str
    status: str
    shown: tuple[str, ...]
    why: str = ""

    @property
    def group(self) -> str:
        """The kind of item, ``equations``."""
        kind = self.name.rpartition(" ")[0].lower()
        return {"appendix": "appendices"}.get(kind, f"{kind}s")


_NEURON = "tests/test_neuron.py"
_PROOFS = "tests/test_paper.py"
_NETWORKS = "tests/test_random_networks.py"
_VERIFY = "pascal-nm verify MODEL --data D"
_ENERGY = "pascal-nm energy MODEL --data D"
_NUMBERS = "pascal-nm paper numbers"
_ADAPT = "pascal-nm adapt MODEL --data D"
_COMPARE = "pascal-nm compare MODEL --data D"

ITEMS: tuple[Item, ...] = (
    Item(
        "Definition 3.1",
        "classification map: a probability for each class",
        "the outputs of both networks, and their softmax; outputs are added up over the timesteps",
        _SAME,
        (_VERIFY, "tests/test_verification.py"),
    ),
    Item(
        "Definition 3.2",
        "mathematically equivalent: the same map for every input",
        (
            "every level, every output and every prediction of both networks is compared, input by input; "
            "`convert` proves its result for all inputs"
        ),
        _SAME,
        (_VERIFY, "tests/test_proof.py"),
    ),
    Item(
        "Theorem 3.3",
        "a MatMul with normalization of L parts adds up to that of their sum",
        "normalization is folded into weights and bias, and the bias injected in shares that add up to it",
        _SAME,
        ("tests/test_conversion.py", _PROOFS),
        "the proof's lines drop a factor (errata); the theorem holds",
    ),
    Item(
        "Theorem 3.4",
        "Algorithm 1 gives the QCFS level, in spikes of 0 or theta*",
        "true of every integer, and proved by z3 on the neuron's own code; of floats up to rounding at a step",
        _SAME,
        (_NEURON, "tests/test_model_check.py"),
    ),
    Item(
        "Theorem 3.5",
        "Algorithm 2 gives the QCFS level of the first layer",
        "the same",
        _SAME,
        (_NEURON,),
    ),
    Item(
        "Theorem 3.6",
        "the spiking network is equivalent to its source network",
        "in integers bit for bit on every target; in floats up to rounding, which is counted",
        _SAME,
        (_VERIFY, "make demo", _NETWORKS, "python benchmarks/against_authors.py CLONE"),
    ),
    Item(
        "Equation 1",
        "the QCFS activation",
        "one torch operator, with the straight-through gradient",
        _SAME,
        ("pascal-nm paper --plot figure2.svg", "tests/test_qcfs.py"),
    ),
    Item(
        "Equation 2",
        "the parts of a layer's output add up to the source network's",
        "every level of every layer is compared",
        _SAME,
        (_VERIFY, _NETWORKS),
    ),
    Item(
        "Equation 3",
        "van der Eijk's agreement A",
        "at least one level counts as occupied, so that A lies between 0 and 1",
        _CORRECTED,
        (_ADAPT, "tests/test_adaptive.py"),
        "with no full bin, the printed A is above 1",
    ),
    Item(
        "Equation 4",
        "skewness g of the levels",
        "of the exact histogram, in fractions; `--reading authors` takes it of the frequencies, as their code does",
        _SAME,
        (_ADAPT, "tests/test_adaptive.py"),
    ),
    Item(
        "Equation 5",
        "kurtosis K of the levels",
        "as printed; `--reading authors` as their code",
        _SAME,
        (_ADAPT, "tests/test_adaptive.py", _PROOFS),
        "the cited work subtracts a further term, about 3",
    ),
    Item("Equation 6", "the metric M = A (g^2 + 1) K", "the same", _SAME, (_ADAPT, "tests/test_adaptive.py")),
    Item(
        "Equation 7",
        "energy is that of accumulations and of neurons",
        "both are counted in a run, and priced by a chip's table",
        _SAME,
        (_ENERGY, "tests/hw_targets/test_chip.py"),
    ),
    Item(
        "Equation 8",
        "the same for PASC neurons",
        "a run with plain neurons of the same spikes stands beside it",
        _SAME,
        (_ENERGY, "tests/hw_targets/test_chip.py"),
    ),
    Item(
        "Equation 9",
        "r_E: a layer's energy over that with plain neurons",
        "the same, the first layer included; the updates of a run are counted beside it",
        _SAME,
        (_ENERGY, "tests/test_analysis.py"),
        "the first layer, which runs Algorithm 2, is charged too much (errata)",
    ),
    Item("Equation 10", "r_E from r'", "the same", _SAME, (_ENERGY, "tests/test_analysis.py")),
    Item(
        "Equation 11",
        "r' of a convolution from its shape and spike rate",
        "three values: by the rate of what arrives, by the layer's own, and by the operations that were counted",
        _SAME,
        (_ENERGY, "tests/test_analysis.py"),
        "which layer's rate is meant is open; behind a 2x2 average pooling four times as many operations are counted",
    ),
    Item("Equation 12", "r' of a fully connected layer", "likewise", _SAME, (_ENERGY, "tests/test_analysis.py")),
    Item(
        "Equation 13",
        "T_norm: mean r_E times T",
        "over the layers with neurons, which the classifier is not",
        _SAME,
        (_NUMBERS, _PROOFS),
        "as Equation 9",
    ),
    Item(
        "Equation 14",
        "r_E of the whole network",
        "over all layers, operations weighed alike",
        _SAME,
        (_ENERGY, _NUMBERS),
    ),
    Item(
        "Equation 15",
        "operations are the spike rate times the source network's",
        "with the rate of what arrives; counted operations beside it",
        _SAME,
        (_ENERGY, "tests/test_analysis.py"),
    ),
    Item(
        "Equation 16",
        "T_eff: mean over layers of r_E times T",
        "over all layers with neurons; the first one's input is no spikes, and has the 0.75 that the paper assumes",
        _SAME,
        (_ENERGY, _NUMBERS, _PROOFS),
        (
            "with a rate of 1 for the first layer T_eff is a little smaller; both are printed. "
            "As Equation 9; and 5 L - 2 is for uniform L (errata)"
        ),
    ),
    Item("Equation 17", "the source network's first activation is c steps", "the same", _SAME, (_NEURON,)),
    Item("Equation 18", "c by the interval of x", "the same", _SAME, (_NEURON, _PROOFS)),
    Item(
        "Equation 19",
        "the first layer spikes in its first c timesteps",
        "every layer's train is one (a thermometer)",
        _SAME,
        (_NEURON,),
    ),
    Item(
        "Equation 20", "QCFS by the interval of x", "the same", _SAME, ("pascal-nm paper --plot figure2.svg", _PROOFS)
    ),
    Item(
        "Equation 21",
        "a spike in the last timestep of stage 1 bounds the sum from below",
        "the bound with k_1 - 1/2",
        _CORRECTED,
        (_PROOFS,),
        "the printed k_1 + 1/2 counts the last spike twice",
    ),
    Item("Equation 22", "no spike there bounds it from above", "the same", _SAME, (_PROOFS,)),
    Item("Equation 23", "after such a spike the potential stays at 0 or above", "the same", _SAME, (_PROOFS,)),
    Item("Equation 24", "and ends below the threshold, if k_2 < L_n", "the same", _SAME, (_PROOFS,)),
    Item("Equation 25", "s after stage 2, if the last timestep spiked", "the same", _SAME, (_PROOFS,)),
    Item("Equation 26", "s after stage 2, if it did not", "the same", _SAME, (_PROOFS,)),
    Item("Equation 27", "the spikes of stage 3 are the QCFS level", "the same", _SAME, (_NEURON, _PROOFS)),
    Item("Equation 28", "the parts of a normalized layer, added up", "the same", _SAME, (_PROOFS,)),
    Item(
        "Equation 29", "split into three sums", "gamma in the second sum", _CORRECTED, (_PROOFS,), "printed without it"
    ),
    Item("Equation 30", "their names", "the same", _SAME, (_PROOFS,)),
    Item("Equation 31", "the first sum", "the same", _SAME, (_PROOFS,)),
    Item("Equation 32", "by the invariant", "the same", _SAME, (_PROOFS,)),
    Item("Equation 33", "by the layer's definition", "parentheses", _CORRECTED, (_PROOFS,), "printed without them"),
    Item("Equation 34", "simplified", "gamma (b - mu) / root", _CORRECTED, (_PROOFS,), "printed as b - mu"),
    Item("Equation 35", "the second sum", "gamma (b - mu) / root", _CORRECTED, (_PROOFS,), "printed as b - mu"),
    Item("Equation 36", "the third sum", "the same", _SAME, (_PROOFS,)),
    Item("Equation 37", "all three", "the right terms", _CORRECTED, (_PROOFS,), "two wrong terms cancel"),
    Item("Equation 38", "are the layer's output", "the same", _SAME, (_PROOFS,)),
    Item(
        "Equation 39",
        "probabilities from outputs averaged over the timesteps",
        "outputs are added up; probabilities are their softmax",
        _CORRECTED,
        (_VERIFY, _PROOFS),
        "the printed quotient is no distribution where outputs are negative, and a softmax of averages is another one",
    ),
    Item("Equation 40", "L cancels", "nothing to cancel", _CORRECTED, (_VERIFY, _PROOFS), "as Equation 39"),
    Item(
        "Equation 41", "what is left", "the source network's softmax", _CORRECTED, (_VERIFY, _PROOFS), "as Equation 39"
    ),
    Item("Equation 42", "is the source network's map", "the same", _SAME, (_VERIFY,)),
    Item(
        "Algorithm 1",
        "the PASC neuron: integrate, correct, emit",
        "written once, for simulator, Lava and chip models",
        _SAME,
        ("pascal-nm run MODEL --data D --schedule pasc", _NEURON, "pascal_nm/neuron.py"),
        "two other schedules with the same counts and fewer timesteps are added (docs/schedules.md)",
    ),
    Item(
        "Algorithm 2",
        "the first layer, from analog inputs",
        "clip(floor(v / theta*), 0, L), then the same emission",
        _CORRECTED,
        (_NEURON, "pascal_nm/neuron.py"),
        "line 3 lacks the factor L_n inside of the floor",
    ),
    Item(
        "Algorithm 3",
        "the AL metric of a layer, from 3000 training images",
        "in two readings: of the levels (the text), of their frequencies (the authors' code)",
        _SAME,
        (_ADAPT, f"{_ADAPT} --reading authors", "tests/test_adaptive.py"),
    ),
    Item(
        "Algorithm 4",
        "train, measure, cluster, train again with levels by layer",
        "the second training has the seed of the first, shares its first two thirds, and is not run twice",
        _SAME,
        ("pascal-nm train --data D --adapt 3", "tests/test_training.py"),
    ),
    Item(
        "Table 1",
        "notation",
        "the code's words are the field's; symbols where the paper has them",
        _CITED,
        ("docs/theory.md",),
    ),
    Item(
        "Table 2",
        "accuracies of source and spiking networks",
        "the recipe for the paper's networks, and smaller ones trained here, whose accuracies are equal",
        _APPROXIMATED,
        ("pascal-nm train --data D --recipe paper", "examples/paper_networks.sh", "docs/models.md", _NUMBERS),
        "full width and 300 epochs need a GPU; lists of levels have the wrong length",
    ),
    Item(
        "Table 3",
        "energy of the source network over the spiking one",
        "from the printed rates with true shapes; from measured rates with b in both readings",
        _CORRECTED,
        (_NUMBERS, _ENERGY, _PROOFS),
        "the first layer's shares are rounded, and wrong for ResNet-18",
    ),
    Item(
        "Table 4",
        "T_eff and accuracy with levels by layer",
        "T_eff from true shapes; accuracies in small, beside levels that are reversed or random at equal T_eff",
        _CORRECTED,
        (_NUMBERS, "python benchmarks/adaptive_controls.py", _PROOFS),
        "lists of the wrong length, and the authors' r'",
    ),
    Item(
        "Table 5",
        "accuracy and timesteps, against QCFS rate coding and SEENN-1",
        "T_norm and T_eff from true shapes; the baselines run on one's own network",
        _CORRECTED,
        (_NUMBERS, _COMPARE, _PROOFS),
        "the authors' r'; accuracies of CIFAR-100 and ImageNet networks are not reproduced",
    ),
    Item(
        "Table 6",
        "against other converted networks",
        "T_norm from true shapes; baselines as for Table 5",
        _CORRECTED,
        (_NUMBERS, _COMPARE, _PROOFS),
        "the authors' r', and a row that mixes L = 8 and 16; accuracies of others' methods are theirs",
    ),
    Item(
        "Table 7",
        "spikes by the value of s after stage 2",
        "the three cases for any L_(n-1) and L_n",
        _CORRECTED,
        (_PROOFS,),
        "the printed range of s is that of L_(n-1) = L_n",
    ),
    Item("Table 8", "notation of layer shapes", "the same", _CITED, ("pascal_nm/paper/analysis.py",)),
    Item(
        "Table 9",
        "not printed; presumably the table of A.4: operations by type of layer",
        "operations of source and spiking network, and the threshold multiplies",
        _SAME,
        (_ENERGY, "tests/test_analysis.py"),
    ),
    Item(
        "Table 10",
        "energy of operations in 45 nm (Horowitz)",
        "the same figures",
        _CITED,
        (f"{_ENERGY} --chip cmos45_int8", _PROOFS),
    ),
    Item("Table 11", "not printed; presumably the table of A.5", "see A.5", _SAME, (_NUMBERS,)),
    Item("Table 12", "not printed; presumably the table of A.6", "see A.6", _SAME, (_NUMBERS,)),
    Item("Table 13", "not printed; presumably the table of A.7", "see A.7", _CORRECTED, (_NUMBERS,), "see A.7"),
    Item(
        "Table 14",
        "energy with PASC and plain neurons on an accelerator",
        "the ratios of the printed figures; the same ratio of counted events on chips' tables",
        _APPROXIMATED,
        (_NUMBERS, f"{_ENERGY} --chip all"),
        "the accelerator is not public",
    ),
    Item(
        "Table 15",
        "energy of the source network on an accelerator",
        "likewise",
        _APPROXIMATED,
        (_NUMBERS, f"{_ENERGY} --chip all"),
        "SparTen and LoAS are not simulated",
    ),
    Item(
        "Table 16",
        "latency with PASC and plain neurons",
        "likewise, as working time of a chip's cores",
        _APPROXIMATED,
        (_NUMBERS, f"{_ENERGY} --chip loihi1_calibrated"),
        "the accelerator is not public",
    ),
    Item(
        "Table 17",
        "against direct training (TET)",
        "T_norm only",
        _OUT,
        (_NUMBERS,),
        "this package converts, and does not train spiking networks by surrogate gradients",
    ),
    Item(
        "Figure 1",
        "AL metric by layer, by cluster",
        "of one's own network",
        _APPROXIMATED,
        (f"{_ADAPT} --plot metric.svg",),
        "the paper's networks are not published",
    ),
    Item(
        "Figure 2",
        "the QCFS staircase with L = 4, theta = 0.25",
        "with the spikes of a neuron on it",
        _SAME,
        ("pascal-nm paper --plot figure2.svg",),
    ),
    Item(
        "Figure 3",
        "the metric by layer for three values of alpha",
        "of one's own network, in one figure",
        _APPROXIMATED,
        (f"{_ADAPT} --alpha 1,.75,.5 --plot alpha.svg",),
        "the paper's networks are not published",
    ),
    Item(
        "Figure 4",
        "spike rate by layer over the test set",
        "of one's own network",
        _APPROXIMATED,
        ("pascal-nm run MODEL --data D --plot rates.svg",),
        "the paper's networks are not published",
    ),
    Item(
        "Appendix A.1",
        "proofs",
        "written anew, and tested line by line",
        _CORRECTED,
        ("docs/theory.md", _PROOFS),
        "see Equations 17 to 42",
    ),
    Item(
        "Appendix A.2",
        "how the threshold alpha moves the metric",
        "a sweep",
        _APPROXIMATED,
        (f"{_ADAPT} --alpha 1,.75,.5 --plot alpha.svg",),
        "as Figure 3",
    ),
    Item(
        "Appendix A.3",
        "CIFAR-10, CIFAR-100, ImageNet",
        "any set of labelled images is read: Parquet, folders, Hugging Face data sets",
        _CITED,
        ("pascal-nm train --data D --streaming", "tests/test_data.py"),
    ),
    Item(
        "Appendix A.4",
        "operations of source and spiking networks",
        "from shapes, and counted; the threshold multiplies with their energy",
        _SAME,
        (_ENERGY, "tests/test_analysis.py"),
        "networks here need no threshold multiplies: weights hold the thresholds",
    ),
    Item("Appendix A.5", "operations of VGG-16, 32x32", "the same totals", _SAME, (_NUMBERS, _PROOFS)),
    Item("Appendix A.6", "operations of VGG-16, 224x224", "the same total", _SAME, (_NUMBERS, _PROOFS)),
    Item(
        "Appendix A.7",
        "operations of ResNet-18, 32x32",
        "the totals of the network's shapes",
        _CORRECTED,
        (_NUMBERS, "tests/test_analysis.py"),
        "convolutions from block 2.1 Conv2 on are computed with 64 channels, or 128 behind a stride",
    ),
    Item(
        "Appendix A.8",
        "training configuration",
        "the same, with what the text leaves open taken from the authors' code (300 epochs, batches of 300)",
        _SAME,
        ("pascal-nm train --data D --recipe paper", "examples/paper_networks.sh"),
    ),
    Item(
        "Appendix A.9",
        "spike rates over the test set",
        "measured by layer",
        _APPROXIMATED,
        ("pascal-nm run MODEL --data D --plot rates.svg", _ENERGY),
        "as Figure 4",
    ),
    Item(
        "Appendix A.10",
        "an accelerator in RTL, synthesized, and simulated by cycles",
        "counted events on published tables of chips instead; see Tables 14 to 16",
        _OUT,
        (f"{_ENERGY} --chip all", "docs/chips.md"),
        (
            "the authors' accelerators (after LoAS and SparTen) are not public, "
            "and a simulator or a synthesis of them would be another project"
        ),
    ),
    Item(
        "Appendix A.11",
        "comparison with direct training",
        "nothing",
        _OUT,
        ("docs/comparison.md",),
        "see Table 17; tools that train spiking networks are named there",
    ),
)
"""In the order definitions, theorems, equations, algorithms, tables, figures, appendices."""

GROUPS = tuple(dict.fromkeys(item.group for item in ITEMS))
"""The kinds of items, in order."""
