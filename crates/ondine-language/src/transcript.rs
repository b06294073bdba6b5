//! What was said: messages and who said them.

use ondine_graph::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who says how the model shall be.
    #[serde(alias = "developer")]
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model has called.
    Tool,
}

/// A call of a tool, as the model has made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What it is called with: an object.
    pub arguments: Value,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// The text.
    #[serde(default)]
    pub content: String,
    /// What the model thought before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The tools that the model called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The tool that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A text that `role` says.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), reasoning: None, tool_calls: Vec::new(), tool_call_id: None, name: None }
    }

    /// The message as templates of chats read it.
    #[must_use]
    pub fn to_template(&self) -> Value {
        let mut message = json!({"role": self.role, "content": self.content});
        if let Some(reasoning) = &self.reasoning {
            // Templates do not agree on a name.
            message["reasoning_content"] = reasoning.as_str().into();
            message["thinking"] = reasoning.as_str().into();
        }
        if !self.tool_calls.is_empty() {
            let call = |call: &ToolCall| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": call.id, "type": "function", "function": function})
            };
            message["tool_calls"] = self.tool_calls.iter().map(call).collect();
        }
        for (key, value) in [("tool_call_id", &self.tool_call_id), ("name", &self.name)] {
            if let Some(value) = value {
                message[key] = value.as_str().into();
            }
        }
        message
    }
}

/// What was said, from the first message on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// The messages in their order.
    pub messages: Vec<Message>,
}

impl Transcript {
    /// A conversation that has not begun, of which `system` says how the model shall be.
    #[must_use]
    pub fn with_system(system: Option<&str>) -> Self {
        Self { messages: system.map(|system| Message::new(Role::System, system)).into_iter().collect() }
    }

    /// Adds what `role` says.
    pub fn say(&mut self, role: Role, content: impl Into<String>) {
        self.messages.push(Message::new(role, content));
    }

    /// What says how the model shall be.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.messages.first().filter(|message| message.role == Role::System).map(|message| message.content.as_str())
    }

    /// Forgets what was said, but not how the model shall be.
    pub fn clear(&mut self) {
        *self = Self::with_system(self.system().map(str::to_owned).as_deref());
    }

    /// The messages as templates of chats read them.
    #[must_use]
    pub fn to_template(&self) -> Vec<Value> {
        self.messages.iter().map(Message::to_template).collect()
    }

    /// The conversation as JSON, which [`Transcript::from_json`] reads.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
    }

    /// Reads what [`Transcript::to_json`] wrote.
    ///
    /// # Errors
    /// If it is something else.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|error| Error::new(ErrorKind::Format, format!("no conversation of `/save`: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_come_back_and_can_begin_again() {
        let mut transcript = Transcript::with_system(Some("Be brief."));
        transcript.say(Role::User, "Hi");
        let mut answer = Message::new(Role::Assistant, "");
        answer.reasoning = Some("hm".into());
        answer.tool_calls.push(ToolCall { id: "1".into(), name: "f".into(), arguments: json!({"a": 1}) });
        transcript.messages.push(answer);
        assert_eq!(Transcript::from_json(&transcript.to_json().unwrap()).unwrap(), transcript);
        let written = &transcript.to_template()[2];
        assert_eq!(written["tool_calls"][0]["function"]["arguments"]["a"], 1);
        assert_eq!(written["thinking"], "hm");
        transcript.clear();
        assert_eq!(transcript, Transcript::with_system(Some("Be brief.")));
        assert!(Transcript::from_json("[]").is_err());
    }
}
