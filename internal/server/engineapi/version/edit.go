package version

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"

	"longshore/internal/base/jsontree"
	"longshore/internal/core/fault"
)

// dropQuery makes a Lift that removes query parameters which the client's version did not know.
func dropQuery(names ...string) func(*Request) error {
	return func(r *Request) error {
		for _, n := range names {
			r.Query.Del(n)
		}
		return nil
	}
}

// dropFields makes a Lift that removes members of the body, each named by its path with dots.
func dropFields(paths ...string) func(*Request) error {
	split := splitPaths(paths)
	return func(r *Request) error {
		body, err := r.JSON()
		if err != nil {
			return err
		}
		split.drop(body)
		return nil
	}
}

// hideFields makes a Lower that removes members of the answer.
func hideFields(paths ...string) func(*View) {
	split := splitPaths(paths)
	return func(v *View) { split.drop(v.Body) }
}

// fieldPaths are the names on the ways to some members.
type fieldPaths [][]string

func splitPaths(paths []string) fieldPaths {
	var out fieldPaths
	for _, p := range paths {
		out = append(out, strings.Split(p, "."))
	}
	return out
}

func (f fieldPaths) drop(body *jsontree.Value) {
	for _, parts := range f {
		last := len(parts) - 1
		body.At(parts[:last]...).Delete(parts[last])
	}
}

// refuseField makes a Lift that answers 400 when a member is set.
func refuseField(message string, path ...string) func(*Request) error {
	return func(r *Request) error {
		body, err := r.JSON()
		if err != nil {
			return err
		}
		if !body.At(path...).Empty() {
			return fault.Invalid("%s", message)
		}
		return nil
	}
}

// endpoints are the endpoint settings of a create or inspect document, by network.
func endpoints(settings *jsontree.Value, member string) iter.Seq2[string, *jsontree.Value] {
	return settings.Member(member).Members()
}

// setFilter adds a value to the "filters" query parameter.
func setFilter(r *Request, name, value string) error {
	filters, err := r.Filters()
	if err != nil {
		return err
	}
	if filters == nil {
		filters = map[string][]string{}
	}
	if !slices.Contains(filters[name], value) {
		filters[name] = append(filters[name], value)
	}
	b, err := json.Marshal(filters)
	if err != nil {
		return err
	}
	r.Query.Set("filters", string(b))
	return nil
}

// eachMount calls f for every HostConfig.Mounts entry of a create request.
func eachMount(r *Request, f func(m *jsontree.Value) error) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	for _, m := range body.At("HostConfig", "Mounts").Items() {
		if err := f(m); err != nil {
			return err
		}
	}
	return nil
}

func invalid(message string) error { return fault.Invalid("%s", message) }

// jsonObject is a constant document; it encodes as itself.
type jsonObject string

// MarshalJSON implements json.Marshaler.
func (o jsonObject) MarshalJSON() ([]byte, error) { return []byte(o), nil }
