"""The networks of `ondine bench` as PyTorch modules with random weights, and arguments to call them with."""

import torch

GROWING = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4


class Call(torch.nn.Module):
    """A module whose call is a function of tensors alone."""

    def __init__(self, module, function):
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *tensors):
        return self.function(self.module, *tensors)


def unet_sd15():
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8
    )
    call = Call(unet, lambda unet, x, t, text: unet(x, t, text, return_dict=False)[0])
    return call, (torch.randn(1, 4, 64, 64), torch.tensor([500.0]), torch.randn(1, 77, 768))


def unet_sdxl():
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048,
        use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )

    def forward(unet, x, t, text, pooled, ids):
        more = {"text_embeds": pooled, "time_ids": ids}
        return unet(x, t, text, added_cond_kwargs=more, return_dict=False)[0]

    size = torch.tensor([[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]])
    text = torch.randn(1, 77, 2048)
    return Call(unet, forward), (torch.randn(1, 4, 128, 128), torch.tensor([500.0]), text, torch.randn(1, 1280), size)


def vae_sd():
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        down_block_types=GROWING[0],
        up_block_types=GROWING[1],
    )
    vae.encoder = torch.nn.Identity()
    return Call(vae, lambda vae, z: vae.decode(z, return_dict=False)[0]), (torch.randn(1, 4, 64, 64),)


def taesd():
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny()
    vae.encoder = torch.nn.Identity()
    return Call(vae, lambda vae, z: vae.decode(z, return_dict=False)[0]), (torch.randn(1, 4, 64, 64),)


def clip_l():
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
    )
    call = Call(CLIPTextModel(config), lambda clip, ids: clip(input_ids=ids, return_dict=False)[0])
    return call, (torch.randint(0, 49000, (1, 77)),)


def flux_blocks():
    from diffusers import FluxTransformer2DModel

    side, tokens = 32, 512
    rows = torch.stack(torch.meshgrid(torch.arange(1), torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 3)

    def forward(flux, x, t, text, pooled, guidance):
        places = torch.zeros(tokens, 3), rows
        more = {"pooled_projections": pooled, "guidance": guidance, "txt_ids": places[0], "img_ids": places[1]}
        return flux(x, text, timestep=t, return_dict=False, **more)[0]

    flux = FluxTransformer2DModel(num_layers=1, num_single_layers=2, guidance_embeds=True)
    half = torch.tensor([0.5])
    return Call(flux, forward), (torch.randn(1, side * side, 64), half, torch.randn(1, tokens, 4096), torch.randn(1, 768), half)


def z_image_blocks():
    from diffusers import ZImageTransformer2DModel

    def forward(z_image, x, t, text):
        return z_image([x], t, [text], return_dict=False)[0][0]

    z_image = ZImageTransformer2DModel(n_layers=2, n_refiner_layers=1)
    return Call(z_image, forward), (torch.randn(16, 1, 64, 64), torch.tensor([0.5]), torch.randn(128, 2560))


class Compact(torch.nn.Module):
    """`SRVGGNetCompact`."""

    def __init__(self, width=64, blocks=16, scale=4):
        super().__init__()
        sizes = [3, *[width] * (blocks + 1)]
        layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.PReLU(b))]
        self.body = torch.nn.Sequential(*layers, torch.nn.Conv2d(width, 3 * scale**2, 3, padding=1), torch.nn.PixelShuffle(scale))
        self.scale = scale

    def forward(self, x):
        return self.body(x) + torch.nn.functional.interpolate(x, scale_factor=self.scale)


class Dense(torch.nn.Module):
    """`RRDBNet`."""

    def __init__(self, width=64, blocks=6, grown=32):
        super().__init__()

        def conv(taken, given):
            return torch.nn.Conv2d(taken, given, 3, padding=1)

        def dense():
            sizes = [(width + n * grown, grown if n < 4 else width) for n in range(5)]
            return torch.nn.ModuleList(conv(*size) for size in sizes)

        self.first, self.last = conv(3, width), conv(width, 3)
        self.blocks = torch.nn.ModuleList(torch.nn.ModuleList(dense() for _ in range(3)) for _ in range(blocks))
        self.after, self.larger, self.fine = conv(width, width), torch.nn.ModuleList(conv(width, width) for _ in range(2)), conv(width, width)

    @staticmethod
    def leaky(x):
        return torch.nn.functional.leaky_relu(x, 0.2, inplace=True)

    def residual(self, x, layers):
        found = [x]
        for layer in layers[:-1]:
            found.append(self.leaky(layer(torch.cat(found, 1))))
        return layers[-1](torch.cat(found, 1)) * 0.2 + x

    def forward(self, x):
        x = first = self.first(x)
        for block in self.blocks:
            y = x
            for layers in block:
                y = self.residual(y, layers)
            x = y * 0.2 + x
        x = first + self.after(x)
        for layer in self.larger:
            x = self.leaky(layer(torch.nn.functional.interpolate(x, scale_factor=2)))
        return self.last(self.leaky(self.fine(x)))


def upscaler():
    return Compact(), (torch.rand(1, 3, 128, 128),)


def upscaler_dense():
    return Dense(), (torch.rand(1, 3, 128, 128),)


NETWORKS = {
    "unet-sd15": unet_sd15,
    "unet-sdxl": unet_sdxl,
    "vae-sd": vae_sd,
    "taesd": taesd,
    "clip-l": clip_l,
    "flux-blocks": flux_blocks,
    "z-image-blocks": z_image_blocks,
    "upscaler": upscaler,
    "upscaler-dense": upscaler_dense,
}


def network(work, dtype=torch.float32):
    """The network of a work with its arguments, floating-point ones of `dtype`."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    module, arguments = NETWORKS[work]()
    torch.set_default_dtype(torch.float32)
    arguments = tuple(x.to(dtype) if x.is_floating_point() else x for x in arguments)
    return module.eval().to(dtype), arguments
