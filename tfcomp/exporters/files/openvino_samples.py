"""OpenVINO models for any batch size, out of a model of one sample.

`BinaryConvolution` is for fixed batch sizes. What a loop around it costs is what is copied in and
out: least around a whole model, since its inputs and outputs are mostly smaller than what passes
between its layers. What stands in a model twice, OpenVINO writes once.
"""

import numpy as np


def sample_by_sample(single):
    """A model that computes one sample after the other.

    Args:
        single: `openvino.Model` whose inputs and outputs are of shape `(1, ...)`.
    """
    from openvino import Model, opset13

    inputs = [_free(parameter) for parameter in single.get_parameters()]
    loop = opset13.tensor_iterator()
    loop.set_body(single)
    for parameter, whole in zip(single.get_parameters(), inputs):
        loop.set_sliced_input(parameter, whole.output(0), 0, 1, 1, -1, 0)
    outputs = [
        loop.get_concatenated_slices(result.output(0), 0, 1, 1, -1, 0)
        for result in single.get_results()
    ]
    return Model([opset13.result(output) for output in outputs], inputs)


def one_at_once(single):
    """The same, which computes one sample alone without the loop."""
    from openvino import Model, opset13

    alone, others = _taking_any(single.clone()), sample_by_sample(single)
    inputs = [_free(parameter) for parameter in single.get_parameters()]
    size = opset13.gather(opset13.shape_of(inputs[0]), np.int64(0), np.int64(0))
    choice = opset13.if_op(opset13.equal(size, np.int64(1)).output(0))
    choice.set_then_body(alone)
    choice.set_else_body(others)
    for whole, *parameters in zip(inputs, alone.get_parameters(), others.get_parameters()):
        choice.set_input(whole.output(0), *parameters)
    outputs = [
        choice.set_output(*results) for results in zip(alone.get_results(), others.get_results())
    ]
    return Model([opset13.result(output) for output in outputs], inputs)


def _free(parameter):
    """A parameter like this one for any batch size."""
    from openvino import opset13

    _, *shape = parameter.output(0).shape
    return opset13.parameter([-1, *shape], parameter.get_element_type())


def _taking_any(single):
    """The model with parameters of any batch size; only one sample fits."""
    from openvino import Model, opset13

    inputs = []
    for parameter in single.get_parameters():
        inputs.append(_free(parameter))
        one = opset13.reshape(inputs[-1], np.array(parameter.output(0).shape), False)
        parameter.output(0).replace(one.output(0))
    return Model(single.get_results(), inputs)
