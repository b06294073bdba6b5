"""Writes U-Nets of random weights whose configs use the options that no published model combines.

Made with diffusers 0.42; `tests/golden.rs` reads what it writes. Run it in this folder.
"""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

SMALL = dict(
    block_out_channels=(6, 10),
    norm_num_groups=2,
    cross_attention_dim=8,
    layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
CONFIGS = {
    # Depths block by block, heads that do not divide the channels, text projected first, class embedding appended.
    "unet_options_a": dict(
        transformer_layers_per_block=[[2], [1]],
        reverse_transformer_layers_per_block=[[1, 1], [1, 2]],
        attention_head_dim=(4, 3),
        encoder_hid_dim=5,
        encoder_hid_dim_type="text_proj",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=7,
        class_embeddings_concat=True,
        downsample_padding=0,
    ),
    # Other activations, kernels and sinusoids; a table of classes; a middle without attention.
    "unet_options_b": dict(
        act_fn="gelu",
        attention_head_dim=2,
        center_input_sample=True,
        conv_in_kernel=5,
        conv_out_kernel=1,
        flip_sin_to_cos=False,
        freq_shift=1,
        mid_block_scale_factor=1.7,
        mid_block_type="UNetMidBlock2D",
        num_class_embeds=4,
        only_cross_attention=True,
        time_embedding_act_fn="silu",
        time_embedding_dim=12,
        timestep_post_act="gelu",
    ),
    # The class is a number embedded like the time.
    "unet_options_c": dict(attention_head_dim=2, class_embed_type="timestep", use_linear_projection=True),
}
LABELS = {
    "unet_options_a": torch.linspace(-1, 1, 14).reshape(2, 7),
    "unet_options_b": torch.tensor([3, 0]),
    "unet_options_c": torch.tensor([3.0, 600.0]),
}


def main():
    torch.manual_seed(0)
    for name, options in CONFIGS.items():
        model = UNet2DConditionModel(**SMALL, **options).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        text = torch.randn(2, 3, options.get("encoder_hid_dim", SMALL["cross_attention_dim"]))
        golden = {"sample": torch.randn(2, 4, 5, 6), "timestep": torch.tensor([981.0, 17.5])}
        golden |= {"encoder_hidden_states": text, "class_labels": LABELS[name]}
        with torch.no_grad():
            golden["output"] = model(golden["sample"], golden["timestep"], text, class_labels=LABELS[name]).sample
        folder = Path(__file__).parent / name
        model.save_pretrained(folder)
        save_file(golden, folder / "golden.safetensors")


main()
