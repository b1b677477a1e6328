"""Small networks with every way in which channels are tied, that others cannot prune."""

import keras
from keras import layers, ops

import tfcomp


def unet():
    x = inputs = keras.Input((32, 32, 3))
    skips = []
    for filters in (8, 12, 16):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(20, 3, padding="same", activation="relu")(x)
    for filters, skip in zip((16, 12, 8), skips[::-1]):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = layers.Concatenate()([x, skip])
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(4, 1)(x), name="unet")


def transformer():
    """Heads, and a residual stream through layer normalization."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(30, 24)(inputs)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 6)(y, y)
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.Dense(24)(layers.Dense(48, activation="gelu")(y))])
    return keras.Model(inputs, layers.Dense(7)(layers.GlobalAveragePooling1D()(x)))


def grouped_queries():
    inputs = keras.Input((10, 16))
    x = layers.Dense(24)(inputs)
    x = x + layers.GroupQueryAttention(6, 4, 2)(x, x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def fire():
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    for squeeze, expand, bypass in ((4, 8, False), (4, 8, True)):
        x = tfcomp.layers.FireModule(squeeze, expand, bypass=bypass)(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(10, 1)(x)))


def shuffle(groups):
    """Torch-Pruning #14 and #45: ShuffleNet v1."""
    first = {1: 24, 2: 32, 3: 36, 4: 48, 8: 128}[groups]
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(12 if groups != 8 else 16, 3, strides=2, padding="same")(x)
    for stage, filters in enumerate((first, 2 * first)):
        grouped = stage > 0
        x = tfcomp.layers.ShuffleUnit(filters, groups, strides=2, first_grouped=grouped)(x)
        x = tfcomp.layers.ShuffleUnit(filters, groups)(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def shuffle_v2():
    """The same for ShuffleNet v2: splits, and a shuffle written with reshapes."""

    def shuffled(x):
        _, height, width, channels = x.shape
        x = layers.Reshape((height, width, 2, channels // 2))(x)
        return layers.Reshape((height, width, channels))(layers.Permute((1, 2, 4, 3))(x))

    def branch(x, filters, strides):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 1)(x)))
        x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, strides, padding="same")(x))
        return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 1)(x)))

    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(inputs)
    for filters in (16, 32):
        y = layers.DepthwiseConv2D(3, 2, padding="same")(x)
        y = layers.ReLU()(layers.Conv2D(filters // 2, 1)(y))
        x = shuffled(layers.Concatenate()([y, branch(x, filters // 2, 2)]))
        for _ in range(2):
            a, b = ops.split(x, 2, axis=-1)
            x = shuffled(layers.Concatenate()([a, branch(b, filters // 2, 1)]))
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalMaxPooling2D()(x)))


def resnext():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for _ in range(2):
        y = layers.Conv2D(16, 1, activation="relu")(x)
        y = layers.Conv2D(16, 3, groups=4, padding="same", activation="relu")(y)
        x = layers.Add()([x, layers.Conv2D(16, 1)(y)])
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def recurrent():
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Embedding(20, 12)(inputs)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    x = layers.GRU(10, return_sequences=True)(x)
    x = layers.TimeDistributed(layers.Dense(9, activation="tanh"))(x)
    return keras.Model(inputs, layers.Dense(4)(layers.SimpleRNN(6)(x)))


def conv_recurrent():
    """A film, and a state that comes from elsewhere."""
    inputs = keras.Input((4, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, activation="relu"))(inputs)
    x = layers.ConvLSTM2D(8, 3, return_sequences=True)(x)
    x = layers.Flatten()(layers.ConvLSTM2D(6, 3)(x))
    y = layers.Reshape((2, -1))(x)
    state = layers.Dense(8, activation="tanh")(x)
    x = layers.GRU(8)(y, initial_state=state)
    return keras.Model(inputs, layers.Dense(3)(x))


@keras.saving.register_keras_serializable("tests")
class Gain(layers.Layer):
    """Multiplies by weights of its own."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, shape):
        self.gain = self.add_weight((1, 1, 1, self.width), name="gain", initializer="uniform")
        self.offsets = [self.add_weight((self.width,), name="offset", initializer="uniform")]

    def call(self, x):
        return x * (self.gain + ops.reshape(self.offsets[0], (1, 1, 1, -1))) + ops.square(x)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Block(layers.Layer):
    """A block that nobody knows, with glue of its own; not registered, nor with a config."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.a = layers.Conv2D(filters, 3, padding="same", name="a")
        self.b = layers.Conv2D(filters, 1, name="b")
        self.gain = Gain(filters, name="gain")

    def build(self, shape):
        inside = (*shape[:-1], self.filters)
        self.a.build(shape)
        self.b.build(inside)
        self.gain.build(inside)

    def call(self, x, training=None):
        y = ops.relu(self.a(x))
        return ops.concatenate([self.gain(self.b(y)) + y, ops.flip(y, -1)], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 2 * self.filters)


def custom():
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3)(inputs)
    x = layers.PReLU(shared_axes=[1, 2])(Block(6, name="block")(x))
    x = layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(x))
    x = layers.ZeroPadding2D(1)(layers.Cropping2D(2)(layers.UpSampling2D()(x)))
    inner = keras.Sequential(
        [keras.Input((*x.shape[1:3], 12)), layers.Conv2D(8, 3, groups=2), layers.ReLU()],
        name="inner",
    )
    x = layers.SeparableConv2D(8, 3, depth_multiplier=2)(inner(x))
    x = layers.AveragePooling2D(2)(layers.GaussianDropout(0.1)(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


class Subclassed(keras.Model):
    """A model that is connected by its own code."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.first = layers.Conv2D(8, 3, padding="same")
        self.blocks = [layers.Conv2D(8, 3, padding="same") for _ in range(2)]
        self.norm = layers.BatchNormalization()
        self.head = layers.Dense(5)

    def call(self, x, training=None):
        x = self.first(x)
        for block in self.blocks:
            x = x + ops.relu(self.norm(block(x), training=training))
        return self.head(ops.mean(x, axis=(1, 2)))


def subclassed():
    model = Subclassed()
    model(ops.zeros((1, 8, 8, 3)))
    return model


def concat_twice():
    """Torch-Pruning #146."""
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, activation="gelu")(inputs))
    x = layers.Conv2D(8, 1)(layers.Concatenate()([x, x]))
    return keras.Model(inputs, layers.Conv2D(4, 1)(layers.BatchNormalization()(x)))


def wide_and_deep():
    """Torch-Pruning #481: concatenation of branches that have nothing to do with each other."""
    inputs = keras.Input((8, 4))
    x = y = layers.Flatten()(inputs)
    for units in (16, 8):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(y)))
    x = layers.Concatenate()([layers.Dense(3)(x), layers.Dense(1)(y)])
    return keras.Model(inputs, layers.Dense(1)(x))


def view():
    """Torch-Pruning #125: a dense layer, seen as an image, into a transposed convolution."""
    inputs = keras.Input((8,))
    x = layers.Reshape((4, 4, 6))(layers.Dense(96, activation="relu")(inputs))
    x = layers.Conv2DTranspose(8, 4, 2, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def depth_to_space():
    """Torch-Pruning #98 and #420: pixel shuffle."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, layers.Conv2D(3, 3)(ops.nn.depth_to_space(x, 2)))


def shared():
    """Layers that are called twice, two inputs and two outputs by name, group normalization."""
    conv = layers.Conv2D(12, 3, padding="same", activation="relu")
    stem, head = layers.Conv2D(12, 1), layers.Dense(10)
    left, right = keras.Input((8, 8, 4), name="left"), keras.Input((8, 8, 4), name="right")
    a, b = conv(stem(left)), conv(stem(right))
    x = layers.Multiply()([conv(a), b])
    y = layers.GroupNormalization(4)(layers.Conv2D(16, 1)(x))
    outputs = {"p": head(layers.GlobalAveragePooling2D()(x)), "q": layers.Conv2D(2, 1)(y)}
    return keras.Model({"l": left, "r": right}, outputs)


def gates():
    """Squeeze and excite, attention over pixels, and an attention map of one channel."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, padding="same")(inputs)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Dense(4, activation="relu", name="squeeze")(s)
    s = layers.Dense(12, activation="sigmoid")(s)
    x = layers.Multiply()([x, s])
    t = layers.Reshape((64, 12))(x)
    t = layers.MultiHeadAttention(3, 6, value_dim=6)(t, t) + t
    x = layers.Reshape((8, 8, 12))(t) * layers.Conv2D(1, 1, activation="sigmoid")(x)
    x = layers.AveragePooling2D(2)(layers.UpSampling2D(interpolation="bilinear")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def literal():
    """Numbers of channels as arguments of operations."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(inputs)
    a, b, c = x[..., :4], x[..., 4:6], x[..., 6:]
    a = layers.Conv2D(4, 3, padding="same")(a)
    x = ops.concatenate(
        [a, layers.Conv2D(3, 1)(b), layers.DepthwiseConv2D(3, padding="same")(c)], -1
    )
    x = ops.reshape(x, (-1, 64, 13))
    first, second = ops.split(layers.Conv1D(10, 1)(x), [4], axis=-1)
    x = ops.matmul(ops.transpose(first, (0, 2, 1)), second)
    return keras.Model(inputs, layers.Dense(2)(layers.Conv1D(5, 1)(x)))


class Branches(keras.Model):
    """Code that runs in another order than the graph that it makes; slices by literal numbers."""

    def __init__(self):
        super().__init__(name="branches")
        self.stem = layers.Conv2D(16, 1, activation="relu")
        self.short = layers.Conv2D(8, 1)
        self.long = [layers.Conv2D(6, 3, padding="same"), layers.Conv2D(8, 3, padding="same")]
        self.halves = [layers.Conv2D(4, 3), layers.Conv2D(4, 3)]
        self.head = layers.Dense(5)

    def call(self, x):
        x = self.stem(x)
        first, second = ops.split(x, 2, axis=-1)
        a = self.short(first)
        b = self.long[1](self.long[0](second))
        parts = ops.split(ops.concatenate([b, a], axis=-1), 2, axis=-1)
        y = self.halves[0](parts[0]) + self.halves[1](parts[1])
        return self.head(ops.mean(y, axis=(1, 2)))


def branches():
    model = Branches()
    model(ops.zeros((1, 8, 8, 3)))
    return model


def exchanged():
    """Slices and sections of a split in another order."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 1)(inputs)
    x = layers.Concatenate()([x[..., 4:], x[..., :4] * 2])
    first, second = ops.split(layers.Conv2D(10, 1)(x), [4], axis=-1)
    x = layers.Conv2D(4, 3)(ops.concatenate([second, first], axis=-1))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def towers():
    """A siamese network."""
    tower = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.SpectralNormalization(layers.Conv2D(12, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="tower",
    )
    inputs = [keras.Input((12, 12, 3), name=name) for name in ("left", "right")]
    left, right = map(tower, inputs)
    same = layers.Dense(1)(ops.abs(layers.Subtract()([left, right])))
    return keras.Model(inputs, {"same": same, "left": layers.Dense(3)(left)})


def film():
    """A network for each image, in a layer that goes along the time."""
    image = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ]
    )
    inputs = keras.Input((5, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(6, 1))(inputs)
    x = layers.LSTM(8)(layers.TimeDistributed(image)(x))
    return keras.Model(inputs, layers.Dense(2)(x))


def autoencoder():
    """Transposed convolutions, and a model that is called twice inside."""
    inside = keras.Input((4, 4, 12))
    y = layers.Conv2D(12, 1)(layers.Conv2D(10, 3, padding="same", activation="relu")(inside))
    inner = keras.Model(inside, layers.Add()([y, inside]), name="inner")
    x = inputs = keras.Input((16, 16, 1))
    for filters in (8, 12):
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, 2, padding="same")(x))
    x = layers.Dense(6, name="latent")(layers.Flatten()(inner(inner(x))))
    x = layers.Reshape((4, 4, 12))(layers.Dense(4 * 4 * 12)(x))
    for filters in (12, 8):
        x = layers.LeakyReLU()(layers.Conv2DTranspose(filters, 3, 2, padding="same")(x))
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(x))


NETS = {
    net.__name__: net
    for net in (
        branches,
        exchanged,
        towers,
        film,
        autoencoder,
        unet,
        transformer,
        grouped_queries,
        fire,
        shuffle_v2,
        resnext,
        recurrent,
        conv_recurrent,
        custom,
        subclassed,
        concat_twice,
        wide_and_deep,
        view,
        depth_to_space,
        shared,
        gates,
        literal,
    )
} | {f"shuffle_{groups}": (lambda groups=groups: shuffle(groups)) for groups in (1, 2, 3, 4, 8)}
