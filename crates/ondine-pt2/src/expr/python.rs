//! Conditions of sizes as Python writes them: `L['x'].size()[2] // 2 >= 3`.
//!
//! Nothing is evaluated but numbers, what inputs are called, operators, and the functions of [`super::value::apply`].

use ondine_graph::{Condition, Dim, Real, Result, fail};

use super::value::{Value, apply};

/// Expressions nest no deeper than this.
const MAX_DEPTH: usize = 64;

/// What a condition speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An argument, by the keys that lead to it.
    Argument(Vec<String>),
    /// The size of one of its dimensions.
    Size(Vec<String>, usize),
    /// A symbol of the program.
    Symbol(String),
}

/// The value of what a condition speaks of.
type Lookup<'a> = &'a dyn Fn(&Place) -> Result<Value>;

/// The condition that a text stands for; none if it speaks of how tensors lie in memory, which is nobody's business
/// here.
///
/// # Errors
/// If the text is no such condition, or as `lookup`.
pub(crate) fn condition(text: &str, lookup: Lookup<'_>) -> Result<Option<Condition>> {
    let mut parser = Parser { text, rest: text, lookup, strided: false };
    let value = parser.whole()?;
    Ok(if parser.strided { None } else { Some(value.truth()) })
}

/// The integer that a text stands for, of symbols of the program.
///
/// # Errors
/// If the text is no such number.
pub(crate) fn integer(text: &str) -> Result<Dim> {
    let lookup = |place: &Place| match place {
        Place::Symbol(name) => Ok(Value::Integer(Dim::symbol(name))),
        Place::Argument(_) | Place::Size(..) => fail!(Format, "`{text}` is no size"),
    };
    Parser { text, rest: text, lookup: &lookup, strided: false }.whole().map(|value| value.integer())
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    lookup: Lookup<'a>,
    /// True once something was said of strides.
    strided: bool,
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Result<Value> {
        let value = self.ternary(0)?;
        match self.rest.trim() {
            "" => Ok(value),
            rest => fail!(Format, "the condition `{}` does not end before `{rest}`", self.text),
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        let word = token.ends_with(|c: char| c.is_ascii_alphanumeric());
        let found = rest.strip_prefix(token).filter(|rest| !word || !rest.starts_with(is_word));
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) {
            return Ok(());
        }
        fail!(Format, "the condition `{}` lacks `{token}` before `{}`", self.text, self.rest)
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest.trim_start();
        let (word, rest) = rest.split_at(rest.find(|c| !belongs(c)).unwrap_or(rest.len()));
        self.rest = rest;
        word
    }

    fn ternary(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            fail!(Format, "a condition is nested more than {MAX_DEPTH} deep");
        }
        let yes = self.any(depth)?;
        if !self.eat("if") {
            return Ok(yes);
        }
        let condition = self.any(depth)?;
        self.expect("else")?;
        let no = self.ternary(depth + 1)?;
        apply("Where", &[condition, yes, no])
    }

    fn any(&mut self, depth: usize) -> Result<Value> {
        let mut value = self.all(depth)?;
        while self.eat("or") {
            value = apply("or", &[value, self.all(depth)?])?;
        }
        Ok(value)
    }

    fn all(&mut self, depth: usize) -> Result<Value> {
        let mut value = self.negation(depth)?;
        while self.eat("and") {
            value = apply("and", &[value, self.negation(depth)?])?;
        }
        Ok(value)
    }

    fn negation(&mut self, depth: usize) -> Result<Value> {
        let mut times = 0_usize;
        while self.eat("not") {
            times += 1;
        }
        let value = self.comparison(depth)?;
        Ok(match times {
            0 => value,
            _ if times % 2 == 1 => apply("not", &[value])?,
            _ => Value::Truth(value.truth()),
        })
    }

    fn comparison(&mut self, depth: usize) -> Result<Value> {
        const SIGNS: [(&str, &str); 6] =
            [("==", "eq"), ("!=", "ne"), ("<=", "le"), (">=", "ge"), ("<", "lt"), (">", "gt")];
        let mut left = self.sum(depth)?;
        let mut result = None;
        while let Some((_, name)) = SIGNS.into_iter().find(|(sign, _)| self.eat(sign)) {
            let right = self.sum(depth)?;
            let next = apply(name, &[left, right.clone()])?;
            // Comparisons in a row all hold.
            result = Some(match result {
                Some(before) => apply("and", &[before, next])?,
                None => next,
            });
            left = right;
        }
        Ok(result.unwrap_or(left))
    }

    fn sum(&mut self, depth: usize) -> Result<Value> {
        let mut value = self.product(depth)?;
        loop {
            let name = if self.eat("+") {
                "add"
            } else if self.eat("-") {
                "sub"
            } else {
                return Ok(value);
            };
            value = apply(name, &[value, self.product(depth)?])?;
        }
    }

    fn product(&mut self, depth: usize) -> Result<Value> {
        let mut value = self.signed(depth)?;
        loop {
            let name = if self.rest.trim_start().starts_with("**") {
                return Ok(value);
            } else if self.eat("*") {
                "mul"
            } else if self.eat("//") {
                "floordiv"
            } else if self.eat("/") {
                "truediv"
            } else if self.eat("%") {
                "mod"
            } else {
                return Ok(value);
            };
            value = apply(name, &[value, self.signed(depth)?])?;
        }
    }

    fn signed(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            fail!(Format, "a condition is nested more than {MAX_DEPTH} deep");
        }
        if self.eat("-") {
            return apply("neg", &[self.signed(depth + 1)?]);
        }
        if self.eat("+") {
            return self.signed(depth + 1);
        }
        let base = self.atom(depth + 1)?;
        if self.eat("**") { apply("pow", &[base, self.signed(depth + 1)?]) } else { Ok(base) }
    }

    fn atom(&mut self, depth: usize) -> Result<Value> {
        if self.eat("(") {
            let value = self.ternary(depth)?;
            self.expect(")")?;
            return Ok(value);
        }
        if self.rest.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.number();
        }
        let name = self.word(|c| is_word(c) || c == '.');
        if name == "L" && self.rest.starts_with('[') {
            return self.argument();
        }
        if self.eat("(") {
            let mut arguments = Vec::new();
            while !self.eat(")") {
                if !arguments.is_empty() {
                    self.expect(",")?;
                }
                arguments.push(self.ternary(depth)?);
            }
            if name == "IsNonOverlappingAndDenseIndicator" {
                self.strided = true;
                return Ok(Value::Integer(Dim::from(1)));
            }
            return apply(name.rsplit('.').next().unwrap_or(name), &arguments);
        }
        match name {
            "True" => Ok(Value::Truth(Condition::Known(true))),
            "False" => Ok(Value::Truth(Condition::Known(false))),
            "inf" | "math.inf" | "int_oo" | "oo" => Ok(Value::Real(Real::constant(f64::INFINITY))),
            "math.pi" => Ok(Value::Real(Real::constant(std::f64::consts::PI))),
            "" => fail!(Format, "the condition `{}` lacks something before `{}`", self.text, self.rest),
            name => (self.lookup)(&Place::Symbol(name.to_owned())),
        }
    }

    fn number(&mut self) -> Result<Value> {
        let digits = self.word(|c| c.is_ascii_digit() || c == '.');
        let mut text = digits.to_owned();
        if self.rest.starts_with(['e', 'E']) {
            text.push('e');
            self.rest = &self.rest[1..];
            if self.rest.starts_with(['-', '+']) {
                text.push_str(&self.rest[..1]);
                self.rest = &self.rest[1..];
            }
            text.push_str(self.word(|c| c.is_ascii_digit()));
        }
        let integer = text.parse::<i64>().map(|value| Value::Integer(Dim::from_i64(value)));
        match integer.or_else(|_| text.parse::<f64>().map(|value| Value::Real(Real::constant(value)))) {
            Ok(value) => Ok(value),
            Err(_) => fail!(Format, "the condition `{}` holds the number `{text}`", self.text),
        }
    }

    /// `['x'][0].y.size()[1]`
    fn argument(&mut self) -> Result<Value> {
        let mut keys = Vec::new();
        loop {
            if self.eat("[") {
                keys.push(self.key()?);
            } else if self.eat(".size()[") {
                let axis = self.index()?;
                return (self.lookup)(&Place::Size(keys, axis));
            } else if self.eat(".stride()[") {
                self.index()?;
                self.strided = true;
                return Ok(Value::Integer(Dim::from(1)));
            } else if self.eat(".storage_offset()") {
                self.strided = true;
                return Ok(Value::Integer(Dim::from(0)));
            } else if self.eat(".") {
                keys.push(self.word(is_word).to_owned());
            } else {
                return (self.lookup)(&Place::Argument(keys));
            }
        }
    }

    fn key(&mut self) -> Result<String> {
        let quote = ["'", "\""].into_iter().find(|quote| self.eat(quote));
        let key = match quote {
            Some(quote) => {
                let (key, rest) = self.rest.split_once(quote).unwrap_or((self.rest, ""));
                self.rest = rest;
                key
            }
            None => self.word(is_word),
        };
        self.expect("]")?;
        Ok(key.to_owned())
    }

    fn index(&mut self) -> Result<usize> {
        let digits = self.word(|c| c.is_ascii_digit());
        self.expect("]")?;
        match digits.parse() {
            Ok(index) => Ok(index),
            Err(_) => fail!(Format, "the condition `{}` speaks of dimension `{digits}`", self.text),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_graph::Bindings;
    use proptest::prelude::*;

    /// Whether a condition of `x` of this size holds.
    fn holds(text: &str, size: usize) -> Result<Option<bool>> {
        let lookup = |place: &Place| match place {
            Place::Size(keys, 2) if keys[..] == ["x".to_owned()] => Ok(Value::Integer(Dim::symbol("s"))),
            Place::Argument(keys) if keys[..] == ["d".to_owned(), "k".to_owned(), "0".to_owned(), "n".to_owned()] => {
                Ok(Value::Integer(Dim::symbol("s")))
            }
            other => fail!(Missing, "{other:?}"),
        };
        match condition(text, &lookup)? {
            Some(condition) => condition.evaluate(&Bindings::from([("s".into(), size)])),
            None => Ok(Some(true)),
        }
    }

    #[test]
    fn conditions_hold_as_in_python() {
        let x = |text: &str| text.replace("max", "MAX").replace('x', "L['x'].size()[2]").replace("MAX", "max");
        type Truth = fn(i64) -> bool;
        let truths: [(&str, Truth); 12] = [
            ("(1 + (((-1) + x) // 2)) != 1", |x| 1 + (x - 1).div_euclid(2) != 1),
            ("math.trunc(0.75*torch.sym_float(x)) == 6", |x| (0.75 * x as f64) as i64 == 6),
            ("x >= 0 and x <= 8", |x| x <= 8),
            ("3*x >= 2", |x| 3 * x >= 2),
            ("torch.sym_max(1, x) == x", |x| x >= 1),
            ("x % 3 == 0 or not x < 20", |x| x % 3 == 0 || x >= 20),
            ("2 < x <= 2**3 - 1", |x| 2 < x && x < 8),
            ("-x // 2 == -4", |x| (-x).div_euclid(2) == -4),
            ("(x if x > 5 else 5) == 5", |x| x <= 5),
            ("(x / 4) > 1.5e0", |x| x as f64 / 4.0 > 1.5),
            ("math.sqrt(x) <= 3.0", |x| x <= 9),
            ("Ne(Mod(x, 2), 1)", |x| x % 2 == 0),
        ];
        for (text, truth) in truths {
            for size in 0..30 {
                assert_eq!(holds(&x(text), size as usize).unwrap(), Some(truth(size)), "{text} at {size}");
            }
        }
        assert_eq!(holds("L['d']['k'][0].n == 3", 3).unwrap(), Some(true));
        // How a tensor lies in memory is no condition of sizes.
        assert_eq!(holds("L['x'].stride()[0] == 99", 3).unwrap(), Some(true));
        // A quotient by nothing is no truth.
        assert_eq!(holds(&x("8 // x == 2"), 0).unwrap(), None);
    }

    #[test]
    fn what_is_no_condition_is_an_error() {
        for text in
            ["", "L['y'].size()[0] == 1", "L['x'].size()[2] ==", "f(1)", "(1", "1 2", "L['x'].size()[a]", "1 if 2"]
        {
            assert!(holds(text, 1).is_err(), "{text}");
        }
        for text in ["(".repeat(5000), "-".repeat(5000), "1 if 1 else ".repeat(5000), "2 ** ".repeat(5000)] {
            assert!(holds(&text, 1).is_err());
        }
        assert!(integer("2*s39 + 1").is_ok_and(|dim| dim == &(&Dim::symbol("s39") * 2) + 1));
        assert!(integer("L['x']").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+*/%()<>=!L'x.size\\[\\]0-9 andorfe]{0,60}") {
            let _ = holds(&text, 4);
        }
    }
}
