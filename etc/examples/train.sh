#!/bin/sh
#DSUB --name train.hello
#DSUB --image ubuntu:22.04
#DSUB --gpus 1
#DSUB --cpus 4
#DSUB --memory 8Gi
#DSUB --time 30m
#DSUB --env GREETING=hello

# Submit with: dsub train.sh world
set -eu
echo "$GREETING ${1:-nobody} from $(hostname)"
nvidia-smi --list-gpus
