"""How good features are: pure functions of arrays, without TensorFlow.

`metrics` compares two sets of labels, `clustering` and `neighbours` turn features into labels,
`scorecard` puts them together; `features` keeps features in files, and `baselines` makes some
that an encoder has to beat.
"""
