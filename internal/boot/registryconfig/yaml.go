package registryconfig

import (
	"errors"
	"fmt"

	"gopkg.in/yaml.v3"
)

// readYAML reads one YAML document. Aliases are followed; a document that refers to itself is refused by depth.
func readYAML(data []byte) (*node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("no document")
	}
	r := &yamlReader{left: maxNodes}
	return r.value(doc.Content[0], "", 0)
}

// maxNodes bounds what aliases can blow up.
const maxNodes = 1 << 14

type yamlReader struct{ left int }

func (r *yamlReader) value(y *yaml.Node, path string, depth int) (*node, error) {
	r.left--
	if depth > maxDepth || r.left < 0 {
		return nil, fmt.Errorf("line %d: %w", y.Line, errDepth)
	}
	n := &node{path: path, line: y.Line, text: y.Value}
	switch y.Kind {
	case yaml.AliasNode:
		return r.value(y.Alias, path, depth+1)
	case yaml.ScalarNode:
		n.kind = scalarKind(y.ShortTag())
		return n, nil
	case yaml.SequenceNode:
		n.kind = isList
		for i, c := range y.Content {
			v, err := r.value(c, fmt.Sprintf("%s[%d]", path, i), depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
		}
		return n, nil
	case yaml.MappingNode:
		n.kind = isObject
		return n, r.mapping(n, y, depth)
	}
	return nil, fmt.Errorf("line %d: unexpected YAML", y.Line)
}

func (r *yamlReader) mapping(n *node, y *yaml.Node, depth int) error {
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
			return fmt.Errorf("line %d: keys must be plain names", k.Line)
		}
		if err := n.unique(k.Value); err != nil {
			return fmt.Errorf("line %d: %w", k.Line, err)
		}
		v, err := r.value(y.Content[i+1], join(n.path, k.Value), depth+1)
		if err != nil {
			return err
		}
		n.keys, n.items = append(n.keys, k.Value), append(n.items, v)
	}
	return nil
}

func scalarKind(tag string) kind {
	switch tag {
	case "!!null":
		return isNull
	case "!!bool":
		return isBool
	case "!!int", "!!float":
		return isNumber
	}
	return isString
}
