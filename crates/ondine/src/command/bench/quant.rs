//! In which formats files store the weights of language models.

use std::{fmt, str::FromStr};

use ondine_graph::{block::Block, encoding::code_bytes};

/// How the weights of a model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quant {
    /// Two bytes each.
    F16,
    /// All in one block format.
    Blocks(Block),
    /// As llama.cpp mixes it: Q4_K, and Q6_K where more bits count more.
    Q4KM,
    /// As foundation models for devices are trained: four levels on both sides of 0, with one scale for each row, and
    /// 4 bits of embeddings and the head (arXiv 2507.13575).
    Int2,
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Two bytes each.
    F16,
    /// In blocks.
    Blocks(Block),
    /// Integers of so many bits around 0, with one scale for each row.
    Integers(u32),
}

impl Stored {
    /// Bytes of a row of so many elements; none if there are too many, or no whole blocks.
    pub(super) fn row_bytes(self, columns: usize) -> Option<usize> {
        match self {
            Self::F16 => columns.checked_mul(2),
            Self::Blocks(block) => block.row_bytes(columns),
            Self::Integers(bits) => code_bytes(columns, bits),
        }
    }

    /// Bytes of what is not cut.
    pub(super) fn unit(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::Blocks(block) => block.bytes(),
            Self::Integers(_) => 1,
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F16 => f.write_str("F16"),
            Self::Blocks(block) => write!(f, "{block}"),
            Self::Integers(bits) => write!(f, "INT{bits}"),
        }
    }
}

impl FromStr for Quant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_uppercase();
        match name.as_str() {
            "F16" => Ok(Self::F16),
            "Q4_K_M" => Ok(Self::Q4KM),
            "INT2" => Ok(Self::Int2),
            _ => Block::ALL.into_iter().find(|block| block.to_string() == name).map(Self::Blocks).ok_or_else(|| {
                format!("choose F16, Q4_K_M, INT2 or {}", Block::ALL.map(|block| block.to_string()).join(", "))
            }),
        }
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F16 => f.write_str("F16"),
            Self::Blocks(block) => write!(f, "{block}"),
            Self::Q4KM => f.write_str("Q4_K_M"),
            Self::Int2 => f.write_str("INT2"),
        }
    }
}

impl Quant {
    /// How a matrix of `layer` of `layers` is stored.
    pub(super) fn stored(self, path: &str, layer: Option<usize>, layers: usize, columns: usize) -> Stored {
        let wanted = match self {
            Self::F16 => return Stored::F16,
            Self::Int2 => return Stored::Integers(if layer.is_some() { 2 } else { 4 }),
            Self::Blocks(block) => block,
            Self::Q4KM => {
                let more = layer.is_none_or(|at| at < layers / 8 || at >= 7 * layers / 8 || (at - layers / 8) % 3 == 2);
                let counts = layer.is_none() || path.contains("v_proj") || path.contains("down_proj");
                if more && counts { Block::Q6_K } else { Block::Q4_K }
            }
        };
        // Rows that are no number of long blocks have shorter ones of about as many bits.
        Stored::Blocks(match (wanted.row_bytes(columns), wanted) {
            (Some(_), _) => wanted,
            (None, Block::Q6_K) => Block::Q8_0,
            (None, Block::Q5_K) => Block::Q5_1,
            (None, Block::Q4_K) => Block::Q5_0,
            (None, _) => Block::IQ4_NL,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_names_that_everybody_knows() {
        for quant in Block::ALL.map(Quant::Blocks).into_iter().chain([Quant::F16, Quant::Q4KM, Quant::Int2]) {
            assert_eq!(quant.to_string().to_lowercase().parse::<Quant>().unwrap(), quant);
        }
        assert!("Q9".parse::<Quant>().unwrap_err().contains("Q4_K_M"));
    }

    #[test]
    fn mixtures_are_those_of_llama_cpp() {
        let of = |path: &str, layer| Quant::Q4KM.stored(path, layer, 16, 2048);
        assert_eq!(of("model.embed_tokens.weight", None), Stored::Blocks(Block::Q6_K));
        let down: Vec<bool> = (0..16).map(|at| of("mlp.down_proj", Some(at)) == Stored::Blocks(Block::Q6_K)).collect();
        let wanted = [0, 1, 4, 7, 10, 13, 14, 15];
        assert_eq!(down, (0..16).map(|at| wanted.contains(&at)).collect::<Vec<_>>());
        assert_eq!(of("self_attn.q_proj", Some(0)), Stored::Blocks(Block::Q4_K));
        assert_eq!(Quant::Q4KM.stored("self_attn.q_proj", Some(0), 30, 576), Stored::Blocks(Block::Q5_0));
        assert_eq!(Quant::Int2.stored("mlp.up_proj", Some(3), 30, 576), Stored::Integers(2));
        assert_eq!(Quant::Int2.stored("lm_head.weight", None, 30, 576), Stored::Integers(4));
    }
}
