"""How good features are: pure functions of arrays, without TensorFlow.

`metrics` compares two sets of labels, `clustering` and `neighbours` turn features into labels,
`scorecard` puts them together, and `baselines` makes features that an encoder has to beat.
"""
