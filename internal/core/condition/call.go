package condition

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// functions take one argument.
var functions = map[string]func(any) (any, error){
	"size":      size,
	"timestamp": timestamp,
	"duration":  duration,
	"string":    func(v any) (any, error) { return fmt.Sprint(v), nil },
	"int":       integer,
}

func function(name string, args []eval) (eval, error) {
	f, ok := functions[name]
	if !ok {
		return nil, fmt.Errorf("unknown function %q", name)
	}
	if len(args) != 1 {
		return nil, fmt.Errorf("%s takes one argument", name)
	}
	call := func(e *env) (any, error) {
		v, err := args[0](e)
		if err != nil {
			return nil, err
		}
		return f(v)
	}
	return call, nil
}

func size(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return int64(len([]rune(v))), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, fmt.Errorf("%v has no size", v)
}

func timestamp(v any) (any, error) {
	switch v := v.(type) {
	case time.Time:
		return v, nil
	case int64:
		return time.Unix(v, 0), nil
	case string:
		return time.Parse(time.RFC3339, v)
	}
	return nil, fmt.Errorf("%v is no timestamp", v)
}

func duration(v any) (any, error) {
	s, _ := v.(string)
	return time.ParseDuration(s)
}

func integer(v any) (any, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case float64:
		return int64(v), nil
	case string:
		return strconv.ParseInt(v, 10, 64)
	case time.Time:
		return v.Unix(), nil
	}
	return nil, fmt.Errorf("%v is no number", v)
}

// onStrings are methods of a string with a string.
var onStrings = map[string]func(s, arg string) (any, error){
	"startsWith": func(s, arg string) (any, error) { return strings.HasPrefix(s, arg), nil },
	"endsWith":   func(s, arg string) (any, error) { return strings.HasSuffix(s, arg), nil },
	"contains":   func(s, arg string) (any, error) { return strings.Contains(s, arg), nil },
	"matches": func(s, arg string) (any, error) {
		re, err := regexp.Compile(arg)
		if err != nil {
			return nil, err
		}
		return re.MatchString(s), nil
	},
}

// onTimes are the parts of a timestamp in UTC, counted as CEL counts.
var onTimes = map[string]func(time.Time) int{
	"getFullYear":   time.Time.Year,
	"getMonth":      func(t time.Time) int { return int(t.Month()) - 1 },
	"getDate":       time.Time.Day,
	"getDayOfMonth": func(t time.Time) int { return t.Day() - 1 },
	"getDayOfYear":  func(t time.Time) int { return t.YearDay() - 1 },
	"getDayOfWeek":  func(t time.Time) int { return int(t.Weekday()) },
	"getHours":      time.Time.Hour,
	"getMinutes":    time.Time.Minute,
	"getSeconds":    time.Time.Second,
}

func method(name string, of eval, args []eval) (eval, error) {
	onString, isString := onStrings[name]
	onTime, isTime := onTimes[name]
	switch {
	case name == "size" && len(args) == 0:
		return function("size", []eval{of})
	case isString && len(args) == 1:
		return stringMethod(name, onString, of, args[0]), nil
	case isTime && len(args) == 0:
		return func(e *env) (any, error) {
			v, err := of(e)
			if err != nil {
				return nil, err
			}
			t, ok := v.(time.Time)
			if !ok {
				return nil, fmt.Errorf("%v is no timestamp", v)
			}
			return int64(onTime(t.UTC())), nil
		}, nil
	}
	return nil, fmt.Errorf("unknown method %q with %d arguments", name, len(args))
}

func stringMethod(name string, f func(s, arg string) (any, error), of, arg eval) eval {
	return func(e *env) (any, error) {
		v, err := all(e, []eval{of, arg})
		if err != nil {
			return nil, err
		}
		s, ok := v[0].(string)
		a, okA := v[1].(string)
		if !ok || !okA {
			return nil, fmt.Errorf("%s needs strings", name)
		}
		return f(s, a)
	}
}
