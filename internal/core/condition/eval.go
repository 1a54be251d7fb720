package condition

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"
	"time"
)

func constant(v any) eval { return func(*env) (any, error) { return v, nil } }

func variable(name string) eval {
	return func(e *env) (any, error) {
		for ; e != nil; e = e.outer {
			if e.name == name {
				return e.value, nil
			}
		}
		return nil, fmt.Errorf("unknown name %q", name)
	}
}

func makeList(items []eval) eval {
	return func(e *env) (any, error) { return all(e, items) }
}

func all(e *env, items []eval) ([]any, error) {
	out := make([]any, len(items))
	for i, item := range items {
		v, err := item(e)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func boolean(e *env, of eval) (bool, error) {
	v, err := of(e)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%v is no boolean", v)
	}
	return b, nil
}

func choose(cond, yes, no eval) eval {
	return func(e *env) (any, error) {
		b, err := boolean(e, cond)
		if err != nil {
			return nil, err
		}
		if b {
			return yes(e)
		}
		return no(e)
	}
}

func negate(o string, of eval) eval {
	return func(e *env) (any, error) {
		if o == "!" {
			b, err := boolean(e, of)
			return !b, err
		}
		v, err := of(e)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case int64:
			return -v, nil
		case float64:
			return -v, nil
		}
		return nil, fmt.Errorf("%v is no number", v)
	}
}

// logic is && and ||: the side that decides wins over an error of the other.
func logic(decides bool, left, right eval) eval {
	return func(e *env) (any, error) {
		l, err := boolean(e, left)
		if err == nil && l == decides {
			return decides, nil
		}
		r, err2 := boolean(e, right)
		if err2 == nil && r == decides {
			return decides, nil
		}
		if err == nil {
			err = err2
		}
		return !decides, err
	}
}

func operate(o string, left, right eval) eval {
	switch o {
	case "&&":
		return logic(false, left, right)
	case "||":
		return logic(true, left, right)
	}
	return func(e *env) (any, error) {
		l, err := left(e)
		if err != nil {
			return nil, err
		}
		r, err := right(e)
		if err != nil {
			return nil, err
		}
		switch o {
		case "==":
			return equal(l, r), nil
		case "!=":
			return !equal(l, r), nil
		case "in":
			return contains(r, l)
		case "<", "<=", ">", ">=":
			return order(o, l, r)
		}
		return arithmetic(o, l, r)
	}
}

func equal(l, r any) bool {
	if a, ok := l.(time.Time); ok {
		b, ok := r.(time.Time)
		return ok && a.Equal(b)
	}
	if a, b, ok := floats(l, r); ok {
		return a == b
	}
	return reflect.DeepEqual(l, r)
}

// floats makes two numbers comparable, when they are numbers.
func floats(l, r any) (a, b float64, ok bool) {
	a, okA := float(l)
	b, okB := float(r)
	return a, b, okA && okB
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func contains(in, v any) (any, error) {
	switch in := in.(type) {
	case []any:
		for _, x := range in {
			if equal(x, v) {
				return true, nil
			}
		}
		return false, nil
	case map[string]any:
		k, _ := v.(string)
		_, ok := in[k]
		return ok, nil
	}
	return nil, fmt.Errorf("in needs a list or a map")
}

func order(o string, l, r any) (any, error) {
	c := 0
	switch a := l.(type) {
	case string:
		b, ok := r.(string)
		if !ok {
			return nil, fmt.Errorf("%v and %v have no order", l, r)
		}
		c = strings.Compare(a, b)
	case time.Time:
		b, ok := r.(time.Time)
		if !ok {
			return nil, fmt.Errorf("%v and %v have no order", l, r)
		}
		c = a.Compare(b)
	case time.Duration:
		b, ok := r.(time.Duration)
		if !ok {
			return nil, fmt.Errorf("%v and %v have no order", l, r)
		}
		c = cmp.Compare(a, b)
	default:
		a2, b2, ok := floats(l, r)
		if !ok {
			return nil, fmt.Errorf("%v and %v have no order", l, r)
		}
		c = cmp.Compare(a2, b2)
	}
	switch o {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

func arithmetic(o string, l, r any) (any, error) {
	switch a := l.(type) {
	case string:
		if b, ok := r.(string); ok && o == "+" {
			return a + b, nil
		}
	case time.Time:
		switch b := r.(type) {
		case time.Duration:
			if o == "+" {
				return a.Add(b), nil
			}
			if o == "-" {
				return a.Add(-b), nil
			}
		case time.Time:
			if o == "-" {
				return a.Sub(b), nil
			}
		}
	case int64:
		if b, ok := r.(int64); ok {
			return integers(o, a, b)
		}
	}
	return nil, fmt.Errorf("%v %s %v cannot be computed", l, o, r)
}

func integers(o string, a, b int64) (any, error) {
	if b == 0 && (o == "/" || o == "%") {
		return nil, fmt.Errorf("division by zero")
	}
	switch o {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "/":
		return a / b, nil
	}
	return a % b, nil
}

func index(of, at eval) eval {
	return func(e *env) (any, error) {
		v, err := of(e)
		if err != nil {
			return nil, err
		}
		k, err := at(e)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case []any:
			if i, ok := k.(int64); ok && i >= 0 && i < int64(len(v)) {
				return v[i], nil
			}
		case map[string]any:
			if s, ok := k.(string); ok {
				if x, ok := v[s]; ok {
					return x, nil
				}
			}
		}
		return nil, fmt.Errorf("there is no element %v", k)
	}
}

func has(of eval) eval {
	return func(e *env) (any, error) {
		_, err := of(e)
		return err == nil, nil
	}
}

func quantify(every bool, of eval, name string, body eval) eval {
	return func(e *env) (any, error) {
		v, err := of(e)
		if err != nil {
			return nil, err
		}
		items, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%v is no list", v)
		}
		for _, item := range items {
			b, err := boolean(&env{facts: e.facts, name: name, value: item, outer: e}, body)
			if err != nil {
				return nil, err
			}
			if b != every {
				return !every, nil
			}
		}
		return every, nil
	}
}
