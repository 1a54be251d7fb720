package names

import (
	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

// Choose reserves the name that a client asked for, or one that nobody has when it asked for none.
func (x *Index[T]) Choose(id, asked string) (string, error) {
	if asked != "" {
		name, err := core.ParseName(asked)
		if err != nil {
			return "", err
		}
		if owner, ok := x.Reserve(name, id); !ok {
			return "", Taken(name, owner)
		}
		return name, nil
	}
	for attempt := range 6 {
		name := Generate(attempt)
		if _, ok := x.Reserve(name, id); ok {
			return name, nil
		}
	}
	name := id[:12]
	if owner, ok := x.Reserve(name, id); !ok {
		return "", Taken(name, owner)
	}
	return name, nil
}

// Taken is docker's refusal of a name that another container has.
func Taken(name, owner string) error {
	return fault.Conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, owner)
}
