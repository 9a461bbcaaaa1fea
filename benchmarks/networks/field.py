"""Networks of the field, written out here for ``architectures.py``.

Each is what its paper describes, with ReLU activations as most implementations have them, no
smaller than it has to be: keyword spotting and biosignals over time, segmentation, detection,
volumes, point clouds, several inputs. Layers are in the order and style in which people write them:
shared and functional activations, in-place ones, views, concatenations.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class LeNet5(nn.Module):
    """LeCun et al. 1998, for 1x28x28, with functional ReLU."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Mlp(nn.Sequential):
    """A table of 20 features, with BatchNorm1d behind its activation."""

    def __init__(self):
        super().__init__(
            nn.Linear(20, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.2),
            nn.Linear(64, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Linear(64, 3),
        )  # fmt: skip


class M5(nn.Module):
    """Dai et al. 2016, raw audio of 1 second at 8 kHz: BatchNorm, ReLU, max-pooling over time."""

    def __init__(self, channels=32, classes=35):
        super().__init__()
        widths = [1, channels, channels, 2 * channels, 2 * channels]
        for i, (before, after) in enumerate(itertools.pairwise(widths), 1):
            self.add_module(f"conv{i}", nn.Conv1d(before, after, *((80, 16) if i == 1 else (3,))))
            self.add_module(f"bn{i}", nn.BatchNorm1d(after))
        self.pool = nn.MaxPool1d(4)
        self.fc1 = nn.Linear(2 * channels, classes)

    def forward(self, x):
        for i in range(1, 5):
            x = getattr(self, f"conv{i}")(x)
            x = self.pool(F.relu(getattr(self, f"bn{i}")(x)))
        x = F.avg_pool1d(x, x.shape[-1]).permute(0, 2, 1)
        return F.log_softmax(self.fc1(x), dim=2).squeeze(1)


class _TcBlock(nn.Module):
    def __init__(self, before, after, kernel=9):
        super().__init__()
        pad = kernel // 2
        self.conv1 = nn.Conv1d(before, after, kernel, 2, pad, bias=False)
        self.conv2 = nn.Conv1d(after, after, kernel, 1, pad, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(after), nn.BatchNorm1d(after)
        self.down = nn.Sequential(nn.Conv1d(before, after, 1, 2, bias=False), nn.BatchNorm1d(after), nn.ReLU())
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.down(x))


class TcResNet8(nn.Module):
    """Choi et al. 2019, keyword spotting: 40 MFCC as channels of 101 timesteps."""

    def __init__(self, classes=12):
        super().__init__()
        self.stem = nn.Conv1d(40, 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(_TcBlock(16, 24), _TcBlock(24, 32), _TcBlock(32, 48))
        self.head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Dropout(0.5), nn.Conv1d(48, classes, 1, bias=False))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x))).squeeze(-1)


class DsCnn(nn.Module):
    """Zhang et al. 2017, keyword spotting on 49x10 MFCC: depthwise, then pointwise."""

    def __init__(self, classes=12, width=64):
        super().__init__()

        def separable():
            return nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            )  # fmt: skip

        self.stem = nn.Sequential(
            nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, width, (10, 4), 2), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.body = nn.Sequential(*(separable() for _ in range(4)))
        self.classifier = nn.Linear(width, classes)

    def forward(self, x):
        return self.classifier(self.body(self.stem(x)).mean((2, 3)))


class _EcgBlock(nn.Module):
    """Pre-activation, with max-pooling and padding of channels on the way past it."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm1d(before), nn.BatchNorm1d(after)
        self.conv1 = nn.Conv1d(before, after, 16, stride, padding="same" if stride == 1 else 7)
        self.conv2 = nn.Conv1d(after, after, 17, padding=8)
        self.pool = nn.MaxPool1d(stride) if stride > 1 else nn.Identity()
        self.more = after - before

    def forward(self, x):
        out = F.relu(self.bn1(x))
        short = F.pad(self.pool(out), (0, 0, 0, self.more))
        return short + self.conv2(F.relu(self.bn2(self.conv1(out))))


class EcgResNet(nn.Module):
    """Hannun et al. 2019, arrhythmia from one lead, four blocks of the sixteen: 256 samples."""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, 16, 15, padding=7), nn.BatchNorm1d(16), nn.ReLU())
        self.blocks = nn.Sequential(
            _EcgBlock(16, 16, 1), _EcgBlock(16, 24, 2), _EcgBlock(24, 24, 1), _EcgBlock(24, 32, 2)
        )
        self.last, self.head = nn.BatchNorm1d(32), nn.Linear(32, classes)

    def forward(self, x):
        return self.head(F.relu(self.last(self.blocks(self.stem(x)))).mean(-1))


class EegNet(nn.Module):
    """Lawhern et al. 2018, 64 electrodes, 128 samples: along time, over electrodes, separable.

    Its ELU is a ReLU here.
    """

    def __init__(self, classes=4, electrodes=64, f1=8, depth=2):
        super().__init__()
        f2 = f1 * depth
        self.first = nn.Sequential(
            nn.Conv2d(1, f1, (1, 64), padding="same", bias=False), nn.BatchNorm2d(f1),
            nn.Conv2d(f1, f2, (electrodes, 1), groups=f1, bias=False), nn.BatchNorm2d(f2),
            nn.ReLU(), nn.AvgPool2d((1, 4)), nn.Dropout(0.5),
        )  # fmt: skip
        self.second = nn.Sequential(
            nn.Conv2d(f2, f2, (1, 16), padding="same", groups=f2, bias=False), nn.Conv2d(f2, f2, 1, bias=False),
            nn.BatchNorm2d(f2), nn.ReLU(), nn.AvgPool2d((1, 8)), nn.Dropout(0.5),
        )  # fmt: skip
        self.classifier = nn.Linear(f2 * 4, classes)

    def forward(self, x):
        return self.classifier(self.second(self.first(x)).flatten(1))


def _double(before, after):
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """Ronneberger et al. 2015, three scales: up by transposed convolution, then bilinearly."""

    def __init__(self, width=8, classes=2):
        super().__init__()
        self.down1, self.down2, self.down3 = _double(3, width), _double(width, 2 * width), _double(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join2, self.join1 = _double(4 * width, 2 * width), _double(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        up = self.join2(torch.cat([two, self.up(self.down3(F.max_pool2d(two, 2)))], 1))
        up = F.interpolate(up, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(self.join1(torch.cat([one, up], 1)))


class Detector(nn.Module):
    """A detector of two scales, with a head of classes and one of boxes for each."""

    def __init__(self, classes=3, anchors=2, width=8):
        super().__init__()

        def unit(before, after, stride=2):
            return nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
            )

        self.near = nn.Sequential(unit(3, width), unit(width, 2 * width))
        self.far, self.lateral = unit(2 * width, 4 * width), nn.Conv2d(4 * width, 2 * width, 1)
        self.smooth = unit(2 * width, 2 * width, 1)
        heads = {"classes": classes, "boxes": 4}
        self.small = nn.ModuleDict({k: nn.Conv2d(2 * width, anchors * n, 3, padding=1) for k, n in heads.items()})
        self.large = nn.ModuleDict({k: nn.Conv2d(4 * width, anchors * n, 3, padding=1) for k, n in heads.items()})

    def forward(self, x):
        near = self.near(x)
        far = self.far(near)
        near = self.smooth(near + F.interpolate(self.lateral(far), scale_factor=2, mode="nearest"))
        return {key: [self.small[key](near), self.large[key](far)] for key in self.small}


class C3d(nn.Sequential):
    """Tran et al. 2015 at a quarter of its depth: 8 frames of 24x24, pooled in space first."""

    def __init__(self, width=8, classes=5):
        def unit(before, after, pool):
            return nn.Conv3d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool3d(pool, pool)

        super().__init__(
            *unit(3, width, (1, 2, 2)), *unit(width, 2 * width, 2), *unit(2 * width, 4 * width, 2),
            nn.Flatten(), nn.Linear(4 * width * 2 * 9, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, classes),
        )  # fmt: skip


class TwoInputs(nn.Module):
    """An image and eight measurements, joined in front of the classifier."""

    def __init__(self, classes=4):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.table = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, classes))

    def forward(self, image, table):
        return self.head(torch.cat((self.image(image).mean((2, 3)), self.table(table)), dim=1))


class _Causal(nn.Module):
    def __init__(self, before, after, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.conv1 = weight_norm(nn.Conv1d(before, after, 3, padding=self.pad, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(after, after, 3, padding=self.pad, dilation=dilation))
        self.down = nn.Conv1d(before, after, 1) if before != after else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.relu(self.conv1(x)[:, :, : -self.pad].contiguous())
        out = self.relu(self.conv2(out)[:, :, : -self.pad].contiguous())
        return self.relu(out + (x if self.down is None else self.down(x)))


class Tcn(nn.Module):
    """Bai et al. 2018: causal dilated convolutions with weight_norm; the last timestep answers."""

    def __init__(self, classes=10):
        super().__init__()
        self.network = nn.Sequential(_Causal(2, 16, 1), _Causal(16, 16, 2), _Causal(16, 16, 4))
        self.linear = nn.Linear(16, classes)

    def forward(self, x):
        return self.linear(self.network(x)[:, :, -1])


class Autoencoder(nn.Sequential):
    """Convolutions down to a code of 16 numbers, transposed convolutions up to an image."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(True), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(True),
            nn.Flatten(), nn.Linear(16 * 49, 16), nn.ReLU(True), nn.Linear(16, 16 * 49), nn.ReLU(True),
            nn.Unflatten(1, (16, 7, 7)), nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.BatchNorm2d(8),
            nn.ReLU(True), nn.ConvTranspose2d(8, 1, 3, 2, 1, output_padding=1), nn.Sigmoid(),
        )  # fmt: skip


class PointNet(nn.Module):
    """Qi et al. 2017 without its transforms: 64 points, the maximum over them."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(3, 32, 1), nn.Conv1d(32, 64, 1), nn.Conv1d(64, 128, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(32), nn.BatchNorm1d(64), nn.BatchNorm1d(128)
        self.fc1, self.fc2, self.relu = nn.Linear(128, 64), nn.Linear(64, classes), nn.ReLU()

    def forward(self, x):
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = torch.max(F.relu(self.bn3(self.conv3(x))), 2, keepdim=True)[0].view(-1, 128)
        return self.fc2(self.relu(self.fc1(x)))


FIELD = {
    "lenet5": (LeNet5, (1, 28, 28)),
    "mlp": (Mlp, (20,)),
    "m5": (M5, (1, 8000)),
    "tc_resnet8": (TcResNet8, (40, 101)),
    "ds_cnn": (DsCnn, (1, 49, 10)),
    "ecg_resnet": (EcgResNet, (1, 256)),
    "eegnet": (EegNet, (1, 64, 128)),
    "unet": (UNet, (3, 32, 32)),
    "detector": (Detector, (3, 32, 32)),
    "c3d": (C3d, (3, 8, 24, 24)),
    "two_inputs": (TwoInputs, ((3, 16, 16), (8,))),
    "tcn": (Tcn, (2, 64)),
    "autoencoder": (Autoencoder, (1, 28, 28)),
    "pointnet": (PointNet, (3, 64)),
}
"""Module and shape of an input (of each, where there are several), by name."""
