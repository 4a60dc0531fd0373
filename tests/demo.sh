#!/bin/sh
# make demo: the workbench on the shipped demo model; without a terminal the program prints the ranking and the measured effect instead.
# usage: tests/demo.sh PROGRAM
cd "$(dirname "$0")/.." || exit 1
exec "$1" lab_models/demo
