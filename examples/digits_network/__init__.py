"""From a float network to an integer one, without a framework.

    python -m examples.digits_network --plot digits.png

========================  ==================================================================
``data``                  scikit-learn's digits in three parts: train, calibrate, test
``convolution``           a convolution and its gradients as matrix products of patches
``network``               the layers; the float network and its integer-friendly, folded form
``training``              stochastic gradient descent with batch norm; the fold
``weights_only``          small weights, float arithmetic
``dynamic``               int8 weights ahead, activations quantized on the fly
``static``                integers from the input quantizer to the output dequantizer
``few_bits``              weights and activations at 4, 3, 2 bits: rounded, and trained with (QAT)
``recipes``               all of them, measured
``noise``                 signal to quantization noise of one layer, by grid and calibrator
``picture``               the plot
========================  ==================================================================
"""
