#!/usr/bin/env bash
# Tables 2 and 4 of the paper, row by row: train by its recipe (Appendix A.8), verify, and run as a spiking network. On one GPU:
#
#     examples/paper_networks.sh CIFAR10_TRAIN.parquet CIFAR10_TEST.parquet [FOLDER]
#
# CIFAR100_TRAIN and CIFAR100_TEST (Parquet files, too) add the rows of CIFAR-100, IMAGENET (what `train --streaming --data` takes; its test images are
# IMAGENET_TEST) those of ImageNet. A run that was stopped goes on with the same command. For trying it out: EPOCHS (3 or more; the paper's are 300, 90
# on ImageNet), WIDTH, ARCHS ("vgg16 resnet18"), ONLY (a regular expression on the names below), LIMIT (images that are verified; 1,000), DEVICE (cuda).
# Several GPUs: LAUNCH="accelerate launch --num_processes 4 -m pascal_nm" examples/paper_networks.sh …
#
# Lists of levels have one number for each layer. Those that the paper prints with one more or less (docs/paper.md) are here as the authors' code has
# them, or without the last of 16 numbers for VGG-16's 15 layers. *-listed* networks take over the levels of Table 4 for the last third of the epochs,
# *-adapted* ones find their own by Algorithm 4, with the table's clusters and L of each.
set -euo pipefail

runs='
table2-cifar10-vgg16-L4              --levels 4
table2-cifar10-vgg16-L8              --levels 8
table2-cifar10-vgg16-mixed           --levels 4,4,4,4,1,1,1,1,1,1,4,4,4,4,4
table2-cifar10-resnet18-L8           --levels 8
table2-cifar100-vgg16-L4             --levels 4
table2-cifar100-vgg16-L8             --levels 8
table2-cifar100-resnet18-L8          --levels 8
table2-cifar100-resnet18-mixed       --levels 4,2,4,1,4,2,2,1,4,2,2,1,4,1,1,1,4
table2-imagenet-vgg16-L16            --levels 16
table2-imagenet-resnet34-L8          --levels 8
table4-cifar10-vgg16-listed          --levels 4 --final-levels 2,1,2,1,2,1,1,1,1,1,4,4,2,4,4
table4-cifar10-vgg16-adapted         --levels 4 --adapt 3 --adapt-levels 4,2,1
table4-cifar10-resnet18-listed       --levels 4 --final-levels 4,4,4,1,4,4,4,1,4,1,1,1,1,1,1,1,4
table4-cifar10-resnet18-adapted      --levels 4 --adapt 2 --adapt-levels 4,1
table4-cifar100-vgg16-listed         --levels 8 --final-levels 8,4,4,1,4,4,1,1,1,1,1,4,8,8,8
table4-cifar100-vgg16-adapted        --levels 8 --adapt 3 --adapt-levels 8,4,1
table4-imagenet-vgg16-three-listed   --levels 16 --final-levels 16,16,16,8,8,8,8,8,4,4,4,4,4,4,4
table4-imagenet-vgg16-two-listed     --levels 16 --final-levels 16,16,16,8,16,8,8,8,8,8,8,8,8,8,8
table4-imagenet-vgg16-three-adapted  --levels 16 --adapt 3 --adapt-levels 16,8,4
table4-imagenet-vgg16-two-adapted    --levels 16 --adapt 2 --adapt-levels 16,8
table4-imagenet-resnet34-listed      --levels 16 --final-levels 16,16,16,8,16,8,16,8,16,8,16,8,16,8,16,8,16,8,16,8,16,8,16,8,16,8,16,8,8,8,8,8,8
table4-imagenet-resnet34-adapted     --levels 16 --adapt 2 --adapt-levels 16,8
'

cifar10=$1 cifar10_test=$2 folder=${3:-runs/paper}
read -ra launch <<< "${LAUNCH:-pascal-nm}"
read -ra archs <<< "${ARCHS:-vgg16 resnet18 resnet34}"
mkdir -p "$folder"

train_and_verify() { # NAME ARCH TRAIN TEST OPTION…
  local model=$folder/$1.pt arch=$2 train=$3 test=$4 log=$folder/$1.log
  shift 4
  if [ ! -e "$model" ]; then
    "${launch[@]}" train --recipe paper --data "$train" --arch "$arch" "$@" --width "${WIDTH:-1}" ${EPOCHS:+--epochs "$EPOCHS"} \
      --device "${DEVICE:-cuda}" -o "$model" 2> >(tee -a "$log" >&2)
  fi
  pascal-nm verify "$model" --data "$test" --limit "${LIMIT:-1000}" --double
}

while read -r name options; do
  [ -n "$name" ] || continue
  IFS=- read -r _ dataset arch _ <<< "$name"
  [[ " ${archs[*]} " == *" $arch "* && $name =~ ${ONLY:-.} ]] || continue
  case $dataset in
    cifar10) images=$cifar10 test=$cifar10_test ;;
    cifar100) images=${CIFAR100_TRAIN:-} test=${CIFAR100_TEST:-} ;;
    imagenet) images=${IMAGENET:-} test=${IMAGENET_TEST:-} options+=" --streaming --mixed-precision" ;;
  esac
  [ -n "$images" ] || continue
  read -ra given <<< "$options"
  train_and_verify "$name" "$arch" "$images" "$test" "${given[@]}" < /dev/null
done <<< "$runs"
