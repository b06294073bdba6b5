//! Symbolic sizes, as SymPy's `srepr` prints them: `Add(Symbol('s11', positive=True, integer=True), Integer(1))`.

use ondine_graph::{Dim, DimPair, Result, fail};

/// Expressions nest no deeper than this.
const MAX_DEPTH: usize = 64;

/// The dimension that an expression stands for.
///
/// # Errors
/// If the text is no such expression, or one of what [`Dim`] cannot hold.
pub(super) fn parse(text: &str) -> Result<Dim> {
    let mut parser = Parser { text, rest: text };
    let dim = parser.expression(0)?;
    if !parser.rest.trim().is_empty() {
        fail!(Format, "the size `{text}` does not end where it should");
    }
    Ok(dim)
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(token);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) {
            return Ok(());
        }
        fail!(Format, "the size `{}` lacks `{token}` before `{}`", self.text, self.rest)
    }

    fn while_true(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest.trim_start();
        let (word, rest) = rest.split_at(rest.find(|c| !belongs(c)).unwrap_or(rest.len()));
        self.rest = rest;
        word
    }

    fn integer(&mut self) -> Result<i64> {
        let digits = self.while_true(|c| c == '-' || c.is_ascii_digit());
        match digits.parse() {
            Ok(value) => Ok(value),
            Err(_) => fail!(Format, "the size `{}` holds `{digits}` where a number should be", self.text),
        }
    }

    fn expression(&mut self, depth: usize) -> Result<Dim> {
        if depth > MAX_DEPTH {
            fail!(Format, "a size is nested more than {MAX_DEPTH} deep");
        }
        let name = self.while_true(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        self.expect("(")?;
        match name {
            "Integer" => {
                let value = self.integer()?;
                self.expect(")")?;
                Ok(Dim::from_i64(value))
            }
            "Symbol" => {
                self.expect("'")?;
                let name = self.while_true(|c| c != '\'');
                self.expect("'")?;
                self.while_true(|c| c != ')');
                self.expect(")")?;
                Ok(Dim::symbol(name))
            }
            _ => {
                let mut operands = vec![self.expression(depth + 1)?];
                while self.eat(",") {
                    operands.push(self.expression(depth + 1)?);
                }
                self.expect(")")?;
                self.apply(name.rsplit('.').next().unwrap_or(name), &operands)
            }
        }
    }

    fn apply(&self, name: &str, operands: &[Dim]) -> Result<Dim> {
        let (first, rest) = (&operands[0], &operands[1..]);
        Ok(match (name, rest) {
            ("Add", _) => rest.iter().fold(first.clone(), |sum, dim| &sum + dim),
            ("Mul", _) => rest.iter().fold(first.clone(), |product, dim| &product * dim),
            ("Max", _) => rest.iter().fold(first.clone(), |most, dim| most.pair(DimPair::Max, dim)),
            ("Min", _) => rest.iter().fold(first.clone(), |least, dim| least.pair(DimPair::Min, dim)),
            ("FloorDiv" | "CleanDiv" | "IntTrueDiv", [divisor]) => first.pair(DimPair::Quotient, divisor),
            ("Mod" | "PythonMod", [divisor]) => first - &first.pair(DimPair::Quotient, divisor) * divisor,
            ("CeilToInt" | "TruncToInt" | "FloorToInt" | "ToFloat" | "Identity", []) => first.clone(),
            ("Pow" | "PowByNatural", [exponent]) if matches!(exponent.constant(), Some(0..=8)) => {
                let times = exponent.constant().unwrap_or(0);
                (0..times).fold(Dim::from(1), |power, _| &power * first)
            }
            _ => fail!(Unsupported, "a size by `{name}` in `{}`", self.text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_become_polynomials() {
        let s = "Symbol('s11', positive=True, integer=True)";
        assert_eq!(parse(s).unwrap(), Dim::symbol("s11"));
        let sum = format!("Add(Mul(Integer(4), {s}), Integer(-3))");
        assert_eq!(parse(&sum).unwrap(), &(&Dim::symbol("s11") * 4) - 3);
        let half = format!("FloorDiv(Add({s}, Integer(1)), Integer(2))");
        assert_eq!(parse(&half).unwrap(), (&Dim::symbol("s11") + 1).floor_div(2));
        assert_eq!(parse("Max(Integer(2), Integer(7))").unwrap(), Dim::from(7));
    }

    #[test]
    fn what_is_no_size_is_an_error() {
        for text in ["", "Integer", "Integer(", "Integer(x)", "Symbol('a'", "Exp(Integer(1))", "Integer(1))"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"Add(".repeat(1000)).is_err());
    }
}
