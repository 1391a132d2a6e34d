import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.ops import get_stats_for_node_def

from kfeat.models import catalog
from kfeat.models.cost import multiply_adds


@pytest.mark.parametrize("name", catalog.ENCODERS)
def test_equals_what_tensorflow_counts(name):
    """TensorFlow knows how many operations, two a multiply-add, its kernels take."""
    model = catalog.build_graph(name, 64)
    images = tf.TensorSpec((1, 64, 64, 3))
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(images).graph
    kinds = {"Conv2D", "Conv2DBackpropInput", "MatMul"}
    operations = [o.node_def for o in graph.get_operations() if o.type in kinds]
    counted = sum(get_stats_for_node_def(graph, node, "flops").value for node in operations)
    assert multiply_adds(model) == counted / 2 > 0


def test_resnet18_costs_what_the_literature_says():
    ours = multiply_adds(catalog.build("resnet18", 224))
    with_head_of_1000 = ours - 512 * 128 + 512 * 1000
    assert np.round(with_head_of_1000 / 1e9, 2) == 1.81  # torchvision's documentation
