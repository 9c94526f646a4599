"""Numbers made of constants and sizes, as Python: what defaults of parameters are in a standalone file."""

from __future__ import annotations

from rnnc.dsl.diagnostics import Diagnostic, SpecError
from rnnc.dsl.expression import Add, Call, Constant, Expression, Multiply, Power, Size

FUNCTIONS = {
    "exp": "math.exp({})",
    "log": "math.log({})",
    "sqrt": "math.sqrt({})",
    "rsqrt": "({}) ** -0.5",
    "abs": "abs({})",
    "max": "max({})",
    "min": "min({})",
    "tanh": "math.tanh({})",
    "sin": "math.sin({})",
    "cos": "math.cos({})",
}


def scalar(expression: Expression) -> str:
    """Python for the expression, over `math` and the sizes `size["K"]`.

    Raises SpecError for anything but a number made of constants, sizes and elementary functions.
    """
    match expression:
        case Constant(value=value):
            return str(value) if value.denominator == 1 else repr(float(value))
        case Size(axis=axis):
            return f'size["{axis}"]'
        case Add(terms=terms):
            return f"({' + '.join(map(scalar, terms))})"
        case Multiply(factors=factors):
            return " * ".join(map(_factor, factors))
        case Power(base=base, exponent=exponent):
            power = exponent.numerator if exponent.denominator == 1 else float(exponent)
            return f"{_factor(base)} ** {power}"
        case Call(function=function, arguments=arguments) if function in FUNCTIONS:
            return FUNCTIONS[function].format(", ".join(map(scalar, arguments)))
        case _:
            message = "a standalone file takes only numbers as defaults"
            raise SpecError([Diagnostic("standalone-default", message, expression.span)])


def _factor(expression: Expression) -> str:
    code = scalar(expression)
    return f"({code})" if isinstance(expression, Multiply | Power) or code.startswith("-") else code
