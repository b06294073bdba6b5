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


NETWORKS = {"unet-sd15": unet_sd15, "unet-sdxl": unet_sdxl, "vae-sd": vae_sd, "taesd": taesd, "clip-l": clip_l}


def network(work, dtype=torch.float32):
    """The network of a work with its arguments, floating-point ones of `dtype`."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    module, arguments = NETWORKS[work]()
    torch.set_default_dtype(torch.float32)
    arguments = tuple(x.to(dtype) if x.is_floating_point() else x for x in arguments)
    return module.eval().to(dtype), arguments
