//! Words that textual inversion taught (Gal et al. 2022): vectors that stand in the place of embeddings of tokens.
//!
//! A file holds one or several vectors for each text encoder that it was made for, in one of the layouts that people
//! share: `string_to_param` of A1111, `emb_params`, `clip_l` beside `clip_g` of `SDXL`, or one tensor under the word
//! itself, as diffusers saves it. The vectors become rows of the encoder's table, by a recipe, so that the table may be
//! in any format; the tokenizer learns which word they are.

use std::{fmt, path::Path, sync::Arc};

use ondine_graph::{Context, Graph, Op, Result, Value, Weights, fail, recipe::Recipe};
use serde_json::{Map, Value as Json};

use crate::{checkpoint, network::Network, tokenizer::Tokenizer};

/// The most vectors that a word may have.
const MOST: usize = 512;

/// A word of a file, with its vectors.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// The words that mean it in a prompt: the file's name, and the one that it was trained under if that is another.
    pub words: Vec<String>,
    weights: Arc<Weights>,
    sets: Vec<Vectors>,
}

/// The vectors for one text encoder.
#[derive(Clone, Debug)]
struct Vectors {
    tensor: String,
    rows: usize,
    width: usize,
    /// The encoder that they say they are for, by its name in a pipeline.
    encoder: Option<&'static str>,
}

/// What became of an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taught {
    /// The word for prompts.
    pub word: String,
    /// Vectors that it stands for.
    pub vectors: usize,
    /// Text encoders that know it.
    pub encoders: usize,
    /// Text encoders that the model has.
    pub total: usize,
}

impl fmt::Display for Taught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { word, vectors, encoders, total } = self;
        write!(f, "{word}: {vectors} vectors, known to {encoders} of {total} text encoders")
    }
}

impl Embedding {
    /// Reads a file of any layout and format; `word` is what means it in prompts, or else the file's name.
    ///
    /// # Errors
    /// If the file is damaged, or holds no vectors.
    pub fn open(path: &Path, word: Option<&str>) -> Result<Self> {
        let (weights, _) = checkpoint::tensors_of(path)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::of(word.map_or(stem, str::to_owned), weights).at(|| path.display().to_string())
    }

    fn of(word: String, weights: Weights) -> Result<Self> {
        let mut words = vec![word];
        let mut sets = Vec::new();
        let only = weights.paths().count() == 1;
        for (path, tensor) in weights.iter() {
            let encoder = match &**path {
                "clip_l" | "text_encoders_0" => Some("text_encoder"),
                "clip_g" | "text_encoders_1" => Some("text_encoder_2"),
                "emb_params" => None,
                path if path.starts_with("string_to_param") => None,
                path if only => {
                    words.push(path.to_owned());
                    None
                }
                _ => continue,
            };
            let (rows, width) = match tensor.shape[..] {
                [width] => (1, width),
                [rows, width] if (1..=MOST).contains(&rows) => (rows, width),
                _ => fail!(Shape, "`{path}` has shape {:?}; vectors of a word have [vectors, width]", tensor.shape),
            };
            sets.push(Vectors { tensor: path.to_string(), rows, width, encoder });
        }
        if sets.is_empty() {
            let some: Vec<_> = weights.paths().take(3).map(|path| format!("`{path}`")).collect();
            fail!(Unsupported, "no embedding (textual inversion) of a known layout: it holds {}", some.join(", "));
        }
        words.dedup();
        if let Some(word) = words.iter().find(|word| word.trim().is_empty()) {
            fail!(Argument, "{word:?} is no word; name the file after the one that is to mean it");
        }
        Ok(Self { words, weights: Arc::new(weights), sets })
    }

    /// Teaches text encoders of a pipeline, each with its tokenizer and the name that diffusers has for it. Those whose
    /// embeddings have another width stay as they are.
    ///
    /// # Errors
    /// If no encoder has vectors of this width: the embedding was made for another model.
    pub fn teach(&self, encoders: &mut [(&str, &mut Tokenizer, &mut Network)]) -> Result<Taught> {
        let tables = encoders.iter().map(|(_, _, network)| Table::of(network)).collect::<Result<Vec<_>>>()?;
        let mut taught =
            Taught { word: self.words[0].clone(), vectors: self.sets[0].rows, encoders: 0, total: encoders.len() };
        for ((name, tokenizer, network), table) in encoders.iter_mut().zip(&tables) {
            let of_width = || self.sets.iter().filter(|set| set.width == table.width);
            let meant = of_width().find(|set| set.encoder == Some(*name));
            let Some(set) = meant.or_else(|| of_width().find(|set| set.encoder.is_none())) else { continue };
            self.add(set, table, tokenizer, network)?;
            taught.encoders += 1;
        }
        if taught.encoders == 0 {
            let widths = |widths: Vec<usize>| widths.iter().map(usize::to_string).collect::<Vec<_>>().join(" and ");
            fail!(
                Unsupported,
                "{}: its vectors have width {}, the model's {}, so it was made for another one",
                self.words[0],
                widths(self.sets.iter().map(|set| set.width).collect()),
                widths(tables.iter().map(|table| table.width).collect())
            );
        }
        Ok(taught)
    }

    /// Adds the vectors to a table, once for each word.
    fn add(&self, set: &Vectors, table: &Table, tokenizer: &mut Tokenizer, network: &mut Network) -> Result<()> {
        let Table { path, rows, width } = table;
        let first = tokenizer.len();
        if first > *rows {
            fail!(
                Unsupported,
                "{}: the tokenizer has {first} tokens, and embeddings of {rows}: no word can be added",
                network.name
            );
        }
        let added = set.rows * self.words.len();
        let mut graph = Graph::new();
        let base = network.base(&mut graph, path, &[*rows, *width])?;
        let own = format!("{}#{}:{}", self.words[0], network.weights.iter().count(), set.tensor);
        let shape = if set.rows == 1 { self.shape_of(set) } else { vec![set.rows, set.width] };
        let vectors = graph.weight(&own, &shape)?;
        let vectors = graph.reshape(vectors, vec![set.rows.into(), set.width.into()])?;
        // Rows behind the last token of the vocabulary are those that nobody trained.
        let mut parts: Vec<Value> = vec![graph.slice(base, 0, 0, first)?];
        parts.extend(std::iter::repeat_n(vectors, self.words.len()));
        if first + added < *rows {
            parts.push(graph.slice(base, 0, first + added, *rows)?);
        }
        let whole = graph.concat(&parts, 0)?;
        graph.output("weight", whole);
        network.take(&self.weights, vec![(set.tensor.clone(), own)])?;
        let recipe = Recipe::new(graph, &network.weights)?;
        network.recipes.insert(path, recipe);
        network.config = with_rows(&network.config, *rows, (first + added).max(*rows))?;
        self.words.iter().try_for_each(|word| tokenizer.teach(word, set.rows))
    }

    fn shape_of(&self, set: &Vectors) -> Vec<usize> {
        self.weights.get(&set.tensor).map_or_else(Vec::new, |tensor| tensor.shape.clone())
    }
}

/// The embeddings of a network that reads tokens.
struct Table {
    path: Arc<str>,
    rows: usize,
    width: usize,
}

impl Table {
    /// The weight that the tokens choose rows of.
    fn of(network: &Network) -> Result<Self> {
        for (_, graph) in network.functions()? {
            let ids = graph.inputs().iter().find(|(name, _)| &**name == "input_ids").map(|(_, value)| *value);
            for node in graph.nodes() {
                if let (Op::Gather, [table, indices]) = (&node.op, &node.inputs[..])
                    && Some(*indices) == ids
                    && let Op::Weight(id) = graph.node(*table).op
                    && let [rows, width] = graph.weight_info(id).shape[..]
                {
                    return Ok(Self { path: graph.weight_info(id).path.clone(), rows, width });
                }
            }
        }
        fail!(Unsupported, "{}: has no table of tokens that a word could be added to", network.name)
    }
}

/// The config of a text encoder whose table has more rows. The token that ends texts stays the one that it was: in
/// configs that mean the last one by 2, too.
fn with_rows(config: &str, before: usize, rows: usize) -> Result<String> {
    let Ok(mut config) = serde_json::from_str::<Map<String, Json>>(config) else {
        fail!(Format, "the config is no JSON object");
    };
    config.insert("vocab_size".to_owned(), rows.into());
    if config.get("eos_token_id").and_then(Json::as_u64) == Some(2) {
        config.insert("eos_token_id".to_owned(), (before - 1).into());
    }
    Ok(Json::Object(config).to_string())
}
