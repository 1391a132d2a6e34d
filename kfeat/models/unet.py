"""U-Net.

Source: Ronneberger, Fischer and Brox 2015, "U-Net: convolutional networks for biomedical image
segmentation", MICCAI, arXiv 1505.04597. The study says that its CAE1 differs from its UNet only
in having no skip connections, so the UNet here is CAE1, and at each resolution the decoder's
up-convolution is followed by the encoder's last maps of that resolution, concatenated. There
are three such resolutions, S/2, S/4 and S/8; at S the encoder has only the image itself, which
U-Net does not pass on either. The convolution after each concatenation takes twice as many
channels, and gives as many, as CAE1's. The bottleneck, and the features, are CAE1's.
"""

from __future__ import annotations

import keras

from kfeat.models.cae import quadrant_autoencoder


def unet(image_size: int, name: str = "unet") -> keras.Model:
    """Build the UNet with random weights.

    Args:
        image_size: side S of the square images in pixels, a multiple of 32.
        name: name of the model.

    Returns:
        As `kfeat.models.cae.cae1`.
    """
    return quadrant_autoencoder(image_size, name, skips=True)
