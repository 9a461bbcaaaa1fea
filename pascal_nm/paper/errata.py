"""What the paper prints and should print otherwise, each with how it is known.

Most of it changes nothing that follows from it; what does says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Erratum:
    """One fault of the printed paper.

    Attributes:
        items: the items of the paper that it is in, as :data:`pascal_nm.paper.ITEMS` names them;
            empty for the running text.
        where: the place, where the items do not say it.
        printed: what is there.
        should: what should be.
        known: how this is known: a counterexample, a computation, the cited work or
            the authors' code.
        effect: what it changes.
    """

    items: tuple[str, ...]
    printed: str
    should: str
    known: str
    effect: str
    where: str = ""


ERRATA: tuple[Erratum, ...] = (
    Erratum(
        (),
        "ResNet-34 with 56 times fewer timesteps",
        "31 times (T = 256 of QCFS over T_norm 8.17); 56 is VGG-16's (1024 over 18.37)",
        "Table 5",
        "the claim is of another network",
        where="Abstract",
    ),
    Erratum(
        ("Algorithm 1",),
        "stage 2 (lines 10 to 16) tests and changes mem(t), which no line has set; and H(0) is not given",
        "mem(t) = mem(t - 1) first, as in line 5; H(0) = 1, as line 6 has it (>=)",
        "with H(0) = 0 a neuron of s = k theta* sends k - 1 spikes, and Theorem 3.4 fails",
        "none, if read so",
    ),
    Erratum(
        ("Algorithm 2",),
        "line 3: floor(X / theta_n + phi)",
        "floor(X L_n / theta_n + phi)",
        "Equations 1 and 17; without the factor no level but 0 and 1 occurs for X below 3/2 theta_n",
        "none: the authors' code has the factor (models/layer.py)",
    ),
    Erratum(
        ("Theorem 3.4",),
        "part (a) calls the source network's activation h tilde, and says 'for all j' behind a sum over j",
        "h hat on the left, and no quantifier",
        "Table 1, Equation 27",
        "none",
    ),
    Erratum(
        ("Equation 3",),
        "A = 1 - (S - 1) / (K - 1), as van der Eijk's agreement",
        (
            "for one layer of his measure, A is this times a factor U for how unimodal the pattern is, "
            "and he weights the layers of a pattern"
        ),
        "van der Eijk 2001, which the paper cites; patternAgreement of the R package agrmt",
        "two full bins far apart agree as well as two neighbours",
    ),
    Erratum(
        ("Equation 3", "Algorithm 3"),
        "a bin is full from alpha times the sum on, alpha in (0, 1)",
        "at least one bin has to count: S >= 1",
        (
            "L = 16 with equal bins of 1/17 each, and alpha = 1/15: no bin is full, S = 0, "
            "and A = 1.0625 for the most even of all layers"
        ),
        "the metric says that the layer which uses all its levels can do with the fewest",
    ),
    Erratum(
        ("Equation 5",),
        "K = k_4 / k_2^2 = the first term alone, with k_4 'the fourth moment'",
        "less 3 (n - 1)^2 / ((n - 2)(n - 3)); k_4 is the fourth cumulant's estimate",
        "Joanes and Gill 1998, G_2; scipy.stats.kurtosis(bias=False)",
        "3 is added to K in every layer (and K is never negative, which the product of Equation 6 needs)",
    ),
    Erratum(
        ("Algorithm 3", "Equation 4", "Equation 5"),
        "skewness and kurtosis of the samples, which are the levels that neurons take",
        (
            "the authors' get_stats.py takes them of the histogram's L + 1 frequencies, "
            "and adds 3 n^2 / ((n - 2)(n - 3)) to the kurtosis"
        ),
        "get_stats.py, calculate_b",
        "the two readings may order layers differently; which made Figure 1 is not said",
    ),
    Erratum(
        ("Figure 1", "Figure 3", "Appendix A.2"),
        "alpha is 1 / (2 L_tot) in Figure 1 and k / L_tot in Figure 3",
        "Figure 1 is k = 1/2 of Figure 3; the authors' code has 1 / (L + 1), a share that one level always has",
        "the captions; get_stats.py",
        "A, and so the metric, depends on it; which made the levels of Table 4 is not said",
    ),
    Erratum(
        ("Table 2",),
        "lists of 16 levels for VGG-16, ResNet-18 and ResNet-34",
        "15, 17 and 33",
        "the QCFS activations of the networks",
        (
            "none where levels are uniform; of VGG-16's list of 4 and 1 (third row) it is not said which entry "
            "is too many"
        ),
    ),
    Erratum(
        ("Table 2",),
        "(Section 4.1) accuracies of source and spiking network differ by floating-point imprecision",
        "at least partly by the tolerance of the authors' threshold, input >= -8e-5",
        (
            "models/layer.py; in double precision, with random weights and a positive first threshold, it moves "
            "levels, and with -1e-12 in its place none (`python benchmarks/against_authors.py CLONE`); "
            "rounding in float32 changes a few predictions in 10,000 besides"
        ),
        "the table's differences are up to 0.24 points, in both directions",
    ),
    Erratum(
        ("Equation 9", "Equation 11"),
        "each IF layer performs L C_0 H_0 W_0 accumulations, and r' is their ratio to the convolution's",
        "C_o H_o W_o: Equation 11 has no L, and Equation 10 multiplies r' by L",
        "Equations 9 to 11 together",
        "none: the formulas agree with each other",
    ),
    Erratum(
        ("Equation 9", "Equation 13", "Equation 16"),
        "every layer has the 5 L - 2 operations of Algorithm 1",
        "the first layer runs Algorithm 2, which has no stages 1 and 2: L, as a plain neuron",
        "Section 3.2; the counted updates of `pascal-nm energy MODEL --data D`",
        (
            "T_norm from true shapes without its excess: VGG-16 4.05, 8.21 (CIFAR), 16.68 (ImageNet), "
            "ResNet-18 8.27, ResNet-34 8.24, 16.99. The first layer has the fewest inputs and so most of the excess"
        ),
    ),
    Erratum(
        ("Equation 16",),
        "5 L - 2 operations (Section 4.2.1, for uniform L) for layers whose L is not that of the layer before",
        ("2 L_(n-1) + 2 (max(L_(n-1), L_n) - 1) + L_n: stages 1 and 2 depend on the layer before"),
        "Algorithm 1, counted as the section does",
        "T_eff of levels by layer is an estimate; `pascal-nm energy` counts the updates of a run",
    ),
    Erratum(
        ("Equation 11", "Equation 15"),
        "SpikeRate_l is the spikes 'in layer l'",
        "the rate of the layer that feeds the synapses of layer l: arriving spikes cause their operations",
        "counted operations (`pascal-nm energy`)",
        "r' of a layer by a factor of its own rate over its source's",
    ),
    Erratum(
        ("Equation 11",),
        "notation 'outlined in Table A.8'",
        "Table 8; A.8 is the training configuration",
        "Appendix A",
        "none",
    ),
    Erratum(
        ("Table 3",),
        "b is the mean of SpikeRate_l over the layers (footnote 1), and stands for operations (Equation 15)",
        "operations have to be weighted by the layers' sizes",
        "`pascal-nm energy MODEL --data D --chip cmos45_fp32` prints both",
        (
            "by network, in FP32 (`--chip cmos45_fp32 --limit 1000`, test images): models/mnist.pt 18.8 by operations "
            "and 14.4 by the mean, models/cifar10.vgg16.pt 6.7 and 7.0"
        ),
    ),
    Erratum(
        ("Table 3", "Appendix A.4"),
        "the energy ratio has no term for the threshold multiplies that A.4 counts",
        "C_o H_o W_o SpikeRate multiplies of 3.7 pJ (FP32) or 0.2 pJ (INT8) for each layer",
        "A.4's own table",
        "below 1 % for VGG-16; none where thresholds are folded into weights",
    ),
    Erratum(
        ("Table 3",),
        "(Section 4.2.2) up to 7 times more energy-efficient",
        "up to 7.96 times in FP32, 11.70 in INT8",
        "the same table",
        "none",
    ),
    Erratum(
        ("Table 3", "Table 13", "Appendix A.7"),
        "ResNet-18's rows from block 2.1 Conv2 on: 9,437,184, 4,718,592…; totals 217,584,640 and 217,630,720",
        "37,748,736, 18,874,368…; 555,422,720 and 555,468,800",
        (
            "16 x 16 x 128 x 9 x 128; printed is 16 x 16 x 64 x 9 x 64, and 8 x 8 x 64 x 9 x 64 in block 3: channels "
            "stay at 64 (128 behind a stride). The shortcut of block 2.1 is right"
        ),
        "Table 3's first-layer share for ResNet-18 is 0.0032, not 0.008; 5.72 becomes 5.85, 5.42 becomes 5.54",
    ),
    Erratum(
        ("Table 4",),
        "16 levels for ResNet-18, 14 for VGG-16 on ImageNet with three clusters, 25 for ResNet-34",
        "17, 15 and 33",
        (
            "the networks; models/ResNet.py and get_Teff.py have 17 and 33, the latter with a 16 at places 20, "
            "22, 24 and 26 (from 0)"
        ),
        "the printed T_eff of VGG-16, 9.92, comes out with a seventh 4 at the end",
    ),
    Erratum(
        ("Table 4", "Table 5", "Table 6", "Equation 13", "Equation 16"),
        "T_norm and T_eff with r' of 512 inputs for FC2 and FC3 of VGG-16, one r' for each block of a ResNet, "
        "and one for the classifier, which has no neurons; of two lists of unequal length, "
        "the end of the longer one does not count",
        "4096 inputs, and one r' for each layer with neurons",
        "get_Teff.py, which gives the printed figures; `pascal-nm paper numbers` has both",
        "ResNet-18: 8.22 becomes 8.77, 3.14 becomes 2.59, 2.63 becomes 2.52; ResNet-34: 12.94 becomes 12.50",
    ),
    Erratum(
        ("Table 6",),
        "VGG-16 at L = 8 has T_norm = 8.79",
        "8.80 by the paper's own inputs (8.796), 8.77 from true shapes; other figures are rounded, this one is cut off",
        "get_Teff.py's r'",
        "none",
    ),
    Erratum(
        ("Table 6",),
        "beside Wu et al.: ResNet-34 with 74.31 % at T_norm = 16.67",
        "74.31 % is the accuracy at L = 8, T_norm 8.17; 16.67 is T_norm at L = 16",
        "Tables 2 and 5",
        "the row understates PASCAL",
    ),
    Erratum(
        ("Equation 17",),
        "h hat of the element x is written with the matrix X",
        "x",
        "the sentence in front of it",
        "none",
    ),
    Erratum(
        ("Table 7",),
        "s lies from -(L_n - 1) to 2 L_n - 1",
        "from -(K) to L_(n-1) + K with K = max(L_(n-1), L_n) - 1",
        "the ends of both ranges occur: L_(n-1) = 8, L_n = 1 reaches 15, where the table ends at 1",
        "none: three cases remain, and stage 3 clips",
    ),
    Erratum(
        ("Table 7", "Equation 27"),
        "s in spikes, and min(max(s, 0), L_n) as the sum of outputs",
        "Algorithm 1 scales s by theta*; the sum is theta* min(max(s / theta*, 0), L_n)",
        "Algorithm 1, lines 7 and 20",
        "none",
    ),
    Erratum(
        ("Equation 21", "Appendix A.1"),
        "after a spike in the last timestep, sum x_i >= (k_1 + 1/2) theta_n / L_n, with k_1 the count after stage 1",
        "(k_1 - 1/2): the last spike is in k_1 already",
        "L_(n-1) = 1 and x = theta*/2 spike, k_1 = 1, and x is less than 3/2 theta*",
        "none: with k_1 >= 1 after such a spike, the proof's L_n - 1 timesteps of stage 2 suffice",
    ),
    Erratum(
        ("Equation 29", "Equation 34", "Equation 35", "Equation 37", "Appendix A.1"),
        "the second sum as 1 / sqrt(sigma^2 + eps) sum (b - mu) / L, its value as b - mu, and the same in S_1",
        "gamma (b - mu) / sqrt(sigma^2 + eps) in each; Equation 35's summand is (b - mu) / L",
        "Equation 28, with any gamma other than the root",
        "none: both wrong terms cancel, and Theorem 3.3 holds",
    ),
    Erratum(
        ("Equation 33", "Appendix A.1"),
        "gamma / sqrt(…) (z^(l+1) - beta) sqrt(…) / gamma - b + mu, without parentheses",
        "the first factor belongs to all of ((z^(l+1) - beta) sqrt(…) / gamma - b + mu)",
        "Equation 32",
        "none; Equation 34 inherits it",
    ),
    Erratum(
        ("Equation 39", "Equation 40", "Equation 41", "Definition 3.1"),
        "the class probability as z[c] over the sum of z",
        "a softmax, or any map of the outputs to a distribution",
        "outputs 1 and -2 give -1 and 2, 1 and -1 divide by 0",
        "the proof only needs that both networks map the same outputs",
    ),
    Erratum(
        ("Theorem 3.6", "Equation 39"),
        "the spiking network's outputs are averaged over its timesteps, z* = z / L",
        "added up, if probabilities are a softmax",
        "softmax(z / L) is not softmax(z): outputs 0 and 4 at L = 4 give 0.73 in place of 0.98",
        "Definition 3.2 asks for equal probabilities; predictions are the same either way",
    ),
    Erratum(
        ("Appendix A.5", "Appendix A.6", "Table 11", "Table 12"),
        "MaxPool1 to MaxPool5",
        "the authors' code has average pooling (models/VGG.py); the theorems speak of neither",
        "models/VGG.py, AvgPool2d(2, 2)",
        "none on the counts; max-pooling is exact on these spike trains as well",
    ),
    Erratum(
        ("Table 9", "Table 11", "Table 12", "Table 13"),
        "no table bears these numbers",
        "presumably the four tables of A.4, A.5, A.6 and A.7, which have none",
        "their order",
        "none",
    ),
    Erratum(
        ("Table 14", "Table 15", "Table 16"),
        "'energy per inference', 3724.865 mJ for the source network",
        "presumably of the 10,000 images of the test set: 0.37 mJ an image",
        "for one image it would be 11.2 nJ for each of 332,111,872 multiply-accumulates, where Table 10 has 0.23 pJ",
        "none on the ratios",
    ),
)
"""In the order of the paper. A reader's number of an erratum is its place here, from 1."""
