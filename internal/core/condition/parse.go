package condition

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// env is what one evaluation sees: the facts and the variables of macros, innermost first.
type env struct {
	facts *Facts
	name  string
	value any
	outer *env
}

type eval func(*env) (any, error)

type parser struct {
	tokens []token
	i      int
	depth  int
	vars   []string
}

// maxDepth bounds nesting.
const maxDepth = 100

func (p *parser) peek() token { return p.tokens[p.i] }

func (p *parser) next() token {
	t := p.tokens[p.i]
	if t.kind != end {
		p.i++
	}
	return t
}

// accept takes one of the operators if it is next.
func (p *parser) accept(ops ...string) (string, bool) {
	t := p.peek()
	if (t.kind == op || t.kind == ident && t.text == "in") && slices.Contains(ops, t.text) {
		p.i++
		return t.text, true
	}
	return "", false
}

func (p *parser) expect(o string) error {
	if _, ok := p.accept(o); !ok {
		return fmt.Errorf("expected %q, got %q", o, p.peek().text)
	}
	return nil
}

func (p *parser) expr() (eval, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxDepth {
		return nil, fmt.Errorf("nested too deeply")
	}
	cond, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if _, ok := p.accept("?"); !ok {
		return cond, nil
	}
	yes, err := p.expr()
	if err != nil {
		return nil, err
	}
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	no, err := p.expr()
	return choose(cond, yes, no), err
}

// levels are the binary operators, the loosest first.
var levels = [][]string{{"||"}, {"&&"}, {"==", "!=", "<", "<=", ">", ">=", "in"}, {"+", "-"}, {"*", "/", "%"}}

func (p *parser) binary(level int) (eval, error) {
	if level == len(levels) {
		return p.unary()
	}
	left, err := p.binary(level + 1)
	for err == nil {
		o, ok := p.accept(levels[level]...)
		if !ok {
			return left, nil
		}
		var right eval
		if right, err = p.binary(level + 1); err == nil {
			left = operate(o, left, right)
		}
	}
	return nil, err
}

func (p *parser) unary() (eval, error) {
	o, ok := p.accept("!", "-")
	if !ok {
		return p.member()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("nested too deeply")
	}
	e, err := p.unary()
	p.depth--
	return negate(o, e), err
}

func (p *parser) member() (eval, error) {
	e, err := p.primary()
	for err == nil {
		if _, ok := p.accept("."); ok {
			e, err = p.selector(e)
		} else if _, ok := p.accept("["); ok {
			var at eval
			if at, err = p.expr(); err == nil {
				e, err = index(e, at), p.expect("]")
			}
		} else {
			return e, nil
		}
	}
	return nil, err
}

func (p *parser) primary() (eval, error) {
	t := p.next()
	switch {
	case t.kind == text:
		return constant(t.text), nil
	case t.kind == number:
		return numeral(t.text)
	case t.kind == ident:
		return p.name(t.text)
	case t.text == "(":
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		return e, p.expect(")")
	case t.text == "[":
		items, err := p.args("]")
		return makeList(items), err
	case t.kind == end:
		return nil, fmt.Errorf("unexpected end")
	}
	return nil, fmt.Errorf("unexpected %q", t.text)
}

func numeral(s string) (eval, error) {
	if strings.Contains(s, ".") {
		f, err := strconv.ParseFloat(s, 64)
		return constant(f), err
	}
	i, err := strconv.ParseInt(s, 10, 64)
	return constant(i), err
}

func (p *parser) name(s string) (eval, error) {
	switch s {
	case "true", "false":
		return constant(s == "true"), nil
	case "null":
		return constant(nil), nil
	case "req":
		return p.field()
	}
	if slices.Contains(p.vars, s) {
		return variable(s), nil
	}
	if _, ok := p.accept("("); !ok {
		return nil, fmt.Errorf("unknown name %q", s)
	}
	if s == "has" {
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		return has(e), p.expect(")")
	}
	args, err := p.args(")")
	if err != nil {
		return nil, err
	}
	return function(s, args)
}

// field reads the path after req as far as it is a known one.
func (p *parser) field() (eval, error) {
	path := ""
	for {
		if err := p.expect("."); err != nil {
			return nil, fmt.Errorf("req needs a field")
		}
		t := p.next()
		if t.kind != ident {
			return nil, fmt.Errorf("unexpected %q after req.%s", t.text, path)
		}
		path = strings.TrimPrefix(path+"."+t.text, ".")
		if get, ok := fields[path]; ok {
			return func(e *env) (any, error) { return get(e.facts), nil }, nil
		}
		if !isPrefix(path) {
			return nil, fmt.Errorf("unknown field req.%s", path)
		}
	}
}

func isPrefix(path string) bool {
	for f := range fields {
		if strings.HasPrefix(f, path+".") {
			return true
		}
	}
	return false
}

func (p *parser) args(closing string) ([]eval, error) {
	var out []eval
	if _, ok := p.accept(closing); ok {
		return nil, nil
	}
	for {
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		out = append(out, e)
		if _, ok := p.accept(","); !ok {
			return out, p.expect(closing)
		}
	}
}

// selector is what follows a dot: a field, a method or a macro.
func (p *parser) selector(of eval) (eval, error) {
	t := p.next()
	if t.kind != ident {
		return nil, fmt.Errorf("unexpected %q after .", t.text)
	}
	if _, ok := p.accept("("); !ok {
		return index(of, constant(t.text)), nil
	}
	if t.text == "exists" || t.text == "all" {
		return p.macro(t.text == "all", of)
	}
	args, err := p.args(")")
	if err != nil {
		return nil, err
	}
	return method(t.text, of, args)
}

func (p *parser) macro(all bool, of eval) (eval, error) {
	v := p.next()
	if v.kind != ident {
		return nil, fmt.Errorf("expected a name, got %q", v.text)
	}
	if err := p.expect(","); err != nil {
		return nil, err
	}
	p.vars = append(p.vars, v.text)
	body, err := p.expr()
	p.vars = p.vars[:len(p.vars)-1]
	if err != nil {
		return nil, err
	}
	return quantify(all, of, v.text, body), p.expect(")")
}
