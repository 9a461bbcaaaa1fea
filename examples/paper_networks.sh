#!/usr/bin/env bash
# VGG-16 and ResNet-18 on CIFAR-10 at L = 4 and 8, as in Table 2 of the paper, on one GPU: train, verify, run as a spiking network.
#
#     examples/paper_networks.sh CIFAR10_TRAIN.parquet CIFAR10_TEST.parquet [FOLDER]
#
# Several GPUs: LAUNCH="accelerate launch --num_processes 4 -m pascal_nm" examples/paper_networks.sh …
# A run that was stopped goes on with the same command. EPOCHS=300 is the paper's; fewer are for trying it out, as are ARCHS, LEVELS and WIDTH.
set -euo pipefail

train=$1 test=$2 folder=${3:-runs/paper}
launch=${LAUNCH:-pascal-nm}
mkdir -p "$folder"

for arch in ${ARCHS:-vgg16 resnet18}; do
  for levels in ${LEVELS:-4 8}; do
    model=$folder/$arch-L$levels.pt
    [ -e "$model" ] || $launch train --data "$train" --arch "$arch" --width "${WIDTH:-1}" --levels "$levels" --epochs "${EPOCHS:-300}" \
      --batch-size 300 --learning-rate 0.1 --weight-decay 5e-4 --auto-augment --label-smoothing 0.1 \
      --device "${DEVICE:-cuda}" --mixed-precision -o "$model" 2> >(tee -a "$folder/$arch-L$levels.log" >&2)
    pascal-nm verify "$model" --data "$test" --limit "${LIMIT:-1000}"
  done
done
