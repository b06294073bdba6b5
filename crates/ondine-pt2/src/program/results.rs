//! What the program calls its results: `out_spec`, the tree that they are put together to.

use serde::Deserialize;
use serde_json::Value;

use crate::schema::GraphModule;

/// The deepest tree that is read.
const MAX_DEPTH: usize = 32;

/// A tree of results, as PyTorch writes it.
#[derive(Deserialize)]
struct Spec {
    /// None for a result.
    r#type: Option<String>,
    /// Of dictionaries and the like, their keys, as JSON.
    context: Option<String>,
    children_spec: Vec<Spec>,
}

/// The path of each result that is in a dictionary on the way: `hidden.0`. None for those that have places alone, and
/// nothing at all if the program does not say.
pub(super) fn labels(module: &GraphModule) -> Vec<Option<String>> {
    let whole = module.module_call_graph.iter().find(|call| call.fqn.is_empty());
    let text = whole.and_then(|call| call.signature.as_ref()).map_or("", |signature| &signature.out_spec);
    // The first is the version of the format.
    let Ok((_, spec)) = serde_json::from_str::<(Value, Spec)>(text) else { return Vec::new() };
    let mut labels = Vec::new();
    collect(&spec, &mut Vec::new(), false, &mut labels);
    labels
}

fn collect(spec: &Spec, path: &mut Vec<String>, named: bool, labels: &mut Vec<Option<String>>) {
    if spec.r#type.is_none() || path.len() >= MAX_DEPTH {
        labels.push(named.then(|| path.join(".")));
        return;
    }
    let keys = spec.context.as_deref().and_then(|context| serde_json::from_str::<Vec<Value>>(context).ok());
    let keys = keys.filter(|keys| keys.len() == spec.children_spec.len());
    for (position, child) in spec.children_spec.iter().enumerate() {
        path.push(match keys.as_ref().map(|keys| &keys[position]) {
            Some(Value::String(key)) => key.clone(),
            Some(key) => key.to_string(),
            None => position.to_string(),
        });
        collect(child, path, named || keys.is_some(), labels);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spec: &str) -> Vec<Option<String>> {
        let mut labels = Vec::new();
        let (_, spec): (Value, Spec) = serde_json::from_str(spec).unwrap();
        collect(&spec, &mut Vec::new(), false, &mut labels);
        labels
    }

    #[test]
    fn keys_are_kept_and_places_are_not() {
        let leaf = r#"{"type": null, "context": null, "children_spec": []}"#;
        let list = |children: &str| {
            format!(r#"{{"type": "builtins.list", "context": "null", "children_spec": [{children}]}}"#)
        };
        assert_eq!(of(&format!("[1, {}]", list(&format!("{leaf}, {leaf}")))), [None, None]);
        assert_eq!(of(&format!("[1, {leaf}]")), [None]);
        let dict = format!(
            r#"[1, {{"type": "builtins.dict", "context": "[\"logits\", \"hidden\", 3]", "children_spec": [{leaf}, {}, {leaf}]}}]"#,
            list(&format!("{leaf}, {}", list(leaf)))
        );
        let wanted = ["logits", "hidden.0", "hidden.1.0", "3"].map(|label| Some(label.to_owned()));
        assert_eq!(of(&dict), wanted);
    }
}
