package imagev1

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// Layer is an image with the digest of its unpacked tar. Empty layers have no files.
type Layer struct {
	Image
	DiffID digest.Digest
	Empty  bool
}

// ownFields are members of a document that belong to the graph, or that the configuration has in another form.
var ownFields = []string{"id", "parent", "parent_id", "layer_id", "Size", "throwaway", "rootfs", "history"}

// Config makes docker's image configuration of a chain of images, base first: the top one's document, with the layers that
// have files as rootfs and every image as a line of history. Members that nobody knows any more are kept.
func Config(chain []Layer) ([]byte, error) {
	if len(chain) == 0 {
		return nil, fault.Invalid("Image not found")
	}
	top := chain[len(chain)-1].Image
	doc := make(map[string]json.RawMessage, len(top.fields)+4)
	for k, v := range top.fields {
		doc[k] = v
	}
	for _, k := range ownFields {
		delete(doc, k)
	}
	if top.text("os") == "" {
		doc["os"] = quote("linux")
	}
	if top.text("architecture") == "" {
		doc["architecture"] = quote("amd64")
	}
	if top.created() == nil {
		delete(doc, "created")
	}
	if err := modernise(doc); err != nil {
		return nil, err
	}
	rootfs := ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	history := make([]ocispec.History, len(chain))
	for i := range chain {
		history[i] = chain[i].history(chain[i].Empty)
		if !chain[i].Empty {
			rootfs.DiffIDs = append(rootfs.DiffIDs, chain[i].DiffID)
		}
	}
	doc["rootfs"], doc["history"] = encode(rootfs), encode(history)
	out := encode(doc)
	// Whoever pulls the image reads it like this: what they could not read is refused now.
	var check ocispec.Image
	if err := json.Unmarshal(out, &check); err != nil {
		return nil, fault.Invalid("Invalid JSON: the image's configuration cannot be read: %w", err)
	}
	return out, nil
}

// modernise writes the ports of before docker 0.6.5 as they are written since, and drops a configuration that is none.
func modernise(doc map[string]json.RawMessage) error {
	var config map[string]json.RawMessage
	if json.Unmarshal(doc["config"], &config) != nil || config == nil {
		delete(doc, "config")
		return nil
	}
	var specs []string
	if json.Unmarshal(config["PortSpecs"], &specs) != nil || len(specs) == 0 {
		return nil
	}
	ports := map[string]struct{}{}
	if err := json.Unmarshal(config["ExposedPorts"], &ports); err != nil && config["ExposedPorts"] != nil {
		return fault.Invalid("Invalid JSON: ExposedPorts: %w", err)
	}
	if ports == nil {
		ports = map[string]struct{}{}
	}
	for _, s := range specs {
		if port, ok := privatePort(s); ok {
			ports[port] = struct{}{}
		}
	}
	delete(config, "PortSpecs")
	config["ExposedPorts"] = encode(ports)
	doc["config"] = encode(config)
	return nil
}

// privatePort reads "80", "8080:80", "53/udp" and "127.0.0.1:53:53/udp".
func privatePort(spec string) (string, bool) {
	spec, proto, _ := strings.Cut(spec, "/")
	if proto == "" {
		proto = "tcp"
	}
	port := spec[strings.LastIndexByte(spec, ':')+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || proto != "tcp" && proto != "udp" {
		return "", false
	}
	return strconv.FormatUint(n, 10) + "/" + proto, true
}

// created is the document's time; nil when it has none that can be read.
func (i *Image) created() *time.Time {
	t, err := time.Parse(time.RFC3339Nano, i.text("created"))
	if err != nil || t.IsZero() || t.Year() < 1970 {
		return nil
	}
	return &t
}

// history is the line that tells of an image.
func (i *Image) history(empty bool) ocispec.History {
	var by struct{ Cmd json.RawMessage }
	var words []string
	if json.Unmarshal(i.fields["container_config"], &by) == nil {
		_ = json.Unmarshal(by.Cmd, &words) // what is no list of words tells nothing
	}
	return ocispec.History{
		Created: i.created(), CreatedBy: strings.Join(words, " "), Author: i.text("author"), Comment: i.text("comment"), EmptyLayer: empty,
	}
}

// encode is for values that always encode; maps come out in the order of their keys.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

func quote(s string) json.RawMessage { return encode(s) }
