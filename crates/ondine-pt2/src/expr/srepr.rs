//! Symbolic sizes, as SymPy's `srepr` prints them: `Add(Symbol('s11', positive=True, integer=True), Integer(1))`.

use ondine_graph::{Condition, Dim, Real, RealPair, Result, fail};

use super::value::{Value, apply};

/// Expressions nest no deeper than this.
const MAX_DEPTH: usize = 64;

/// The dimension that an expression stands for.
///
/// # Errors
/// If the text is no such expression, or one that is not known.
pub(crate) fn parse(text: &str) -> Result<Dim> {
    let mut parser = Parser { text, rest: text };
    let value = parser.expression(0)?;
    if !parser.rest.trim().is_empty() {
        fail!(Format, "the size `{text}` does not end where it should");
    }
    Ok(value.integer())
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

    fn number<T: std::str::FromStr>(&mut self) -> Result<T> {
        let digits = self.while_true(|c| matches!(c, '-' | '+' | '.' | 'e' | 'E') || c.is_ascii_digit());
        match digits.parse() {
            Ok(value) => Ok(value),
            Err(_) => fail!(Format, "the size `{}` holds `{digits}` where a number should be", self.text),
        }
    }

    fn expression(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            fail!(Format, "a size is nested more than {MAX_DEPTH} deep");
        }
        let name = self.while_true(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        match name {
            "true" => return Ok(Value::Truth(Condition::Known(true))),
            "false" => return Ok(Value::Truth(Condition::Known(false))),
            "oo" => return Ok(Value::Real(Real::constant(f64::INFINITY))),
            _ => {}
        }
        self.expect("(")?;
        let value = match name.rsplit('.').next().unwrap_or(name) {
            "Integer" => Value::Integer(Dim::from_i64(self.number()?)),
            "Float" => {
                self.expect("'")?;
                let value = self.number::<f64>()?;
                self.expect("'")?;
                self.while_true(|c| c != ')');
                Value::Real(Real::constant(value))
            }
            "Rational" => {
                let above = self.number()?;
                self.expect(",")?;
                let (above, below) = (Real::Of(Dim::from_i64(above)), Real::Of(Dim::from_i64(self.number()?)));
                Value::Real(above.pair(RealPair::Quotient, &below))
            }
            "Symbol" => {
                self.expect("'")?;
                let name = self.while_true(|c| c != '\'');
                self.expect("'")?;
                self.while_true(|c| c != ')');
                Value::Integer(Dim::symbol(name))
            }
            "Piecewise" => return self.piecewise(depth),
            "Infinity" => Value::Real(Real::constant(f64::INFINITY)),
            "NegativeInfinity" => Value::Real(Real::constant(f64::NEG_INFINITY)),
            name => {
                let mut operands = vec![self.expression(depth + 1)?];
                while self.eat(",") {
                    operands.push(self.expression(depth + 1)?);
                }
                apply(name, &operands)?
            }
        };
        self.expect(")")?;
        Ok(value)
    }

    /// `ExprCondPair(value, condition), ...)`: the first value whose condition holds.
    fn piecewise(&mut self, depth: usize) -> Result<Value> {
        let mut pieces = Vec::new();
        loop {
            self.expect("ExprCondPair")?;
            self.expect("(")?;
            let value = self.expression(depth + 1)?;
            self.expect(",")?;
            pieces.push((value, self.expression(depth + 1)?));
            self.expect(")")?;
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        let Some((mut value, _)) = pieces.pop() else { fail!(Format, "a choice of nothing") };
        while let Some((other, condition)) = pieces.pop() {
            value = apply("Where", &[condition, other, value])?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_graph::Bindings;

    const S: &str = "Symbol('s11', positive=True, integer=True)";

    #[test]
    fn sizes_become_polynomials() {
        assert_eq!(parse(S).unwrap(), Dim::symbol("s11"));
        let sum = format!("Add(Mul(Integer(4), {S}), Integer(-3))");
        assert_eq!(parse(&sum).unwrap(), &(&Dim::symbol("s11") * 4) - 3);
        let half = format!("FloorDiv(Add({S}, Integer(1)), Integer(2))");
        assert_eq!(parse(&half).unwrap(), (&Dim::symbol("s11") + 1).floor_div(2));
        assert_eq!(parse("Max(Integer(2), Integer(7))").unwrap(), Dim::from(7));
    }

    #[test]
    fn numbers_that_are_not_whole_are_rounded_as_they_say() {
        let half = format!("TruncToInt(Mul(Float('0.5', precision=53), ToFloat({S})))");
        assert_eq!(parse(&half).unwrap(), Dim::symbol("s11").floor_div(2));
        let at = |text: &str, size: usize| parse(text).unwrap().bind(&Bindings::from([("s11".into(), size)]));
        let third = format!("TruncToInt(Mul(Float('0.33333333333333331', precision=53), ToFloat({S})))");
        let ceil = format!("CeilToInt(IntTrueDiv({S}, Integer(3)))");
        let root = format!("FloorToInt(OpaqueUnaryFn_sqrt(ToFloat({S})))");
        let round = format!("RoundToInt(Mul(Float('0.5', precision=53), ToFloat({S})))");
        let power = format!("TruncToInt(FloatPow(ToFloat({S}), Float('1.5', precision=53)))");
        let cut = format!("Piecewise(ExprCondPair(Integer(5), GreaterThan({S}, Integer(5))), ExprCondPair({S}, true))");
        let index = format!("ModularIndexing({S}, Integer(2), Integer(3))");
        for size in 0..40_usize {
            assert_eq!(at(&third, size).unwrap(), (size as f64 * (1.0 / 3.0)) as usize);
            assert_eq!(at(&ceil, size).unwrap(), size.div_ceil(3));
            assert_eq!(at(&root, size).unwrap(), (size as f64).sqrt() as usize);
            assert_eq!(at(&round, size).unwrap(), (size as f64 * 0.5).round_ties_even() as usize);
            assert_eq!(at(&power, size).unwrap(), (size as f64).powf(1.5) as usize);
            assert_eq!(at(&cut, size).unwrap(), size.min(5));
            assert_eq!(at(&index, size).unwrap(), size / 2 % 3);
        }
    }

    #[test]
    fn what_is_no_size_is_an_error() {
        let texts =
            ["", "Integer", "Integer(", "Integer(x)", "Symbol('a'", "Gamma(Integer(1))", "Integer(1))", "Add()"];
        for text in texts.into_iter().chain(["Where(true, Integer(1))", "Piecewise()", "Float('x')", "Rational(1)"]) {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"Add(".repeat(1000)).is_err());
    }

    #[test]
    fn towers_of_powers_and_divisions_by_nothing_end() {
        let tower = (0..40).fold(S.to_owned(), |text, _| format!("Pow(Add({text}, {S}), Integer(9))"));
        assert!(parse(&tower).is_err());
        for text in
            ["FloorDiv(Integer(1), Integer(0))", "Mod(Integer(1), Integer(0))", "IntTrueDiv(Integer(1), Integer(0))"]
        {
            assert!(parse(text).is_ok_and(|dim| dim.number(&Bindings::new()).is_err()), "{text}");
        }
        let huge = "PowByNatural(Integer(10), Integer(30))";
        assert!(parse(huge).is_ok_and(|dim| dim.number(&Bindings::new()).is_err()));
    }
}
