package version

import (
	"encoding/json"
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
	return func(r *Request) error {
		body, err := r.JSON()
		if err != nil {
			return err
		}
		for _, p := range paths {
			drop(body, p)
		}
		return nil
	}
}

// hideFields makes a Lower that removes members of the answer.
func hideFields(paths ...string) func(*View) {
	return func(v *View) {
		for _, p := range paths {
			drop(v.Body, p)
		}
	}
}

func drop(body *jsontree.Value, path string) {
	parts := strings.Split(path, ".")
	last := len(parts) - 1
	body.At(parts[:last]...).Delete(parts[last])
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
func endpoints(settings *jsontree.Value, member string) map[string]*jsontree.Value {
	nets := settings.Member(member)
	out := make(map[string]*jsontree.Value, nets.Len())
	for i, name := range nets.Keys() {
		out[name] = nets.Items()[i]
	}
	return out
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
