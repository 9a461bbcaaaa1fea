"""When populations fire, the simulator that runs them, and what a run gives back."""
