package registryv1

import (
	"fmt"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"longshore/internal/boot/registryboot/registrytest"
)

// TestManyTags: a repository that clients of today have filled is listed whole at the first request of an old one.
func TestManyTags(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	img := someImage(t, 1)
	const n = 60
	for i := range n {
		layer, err := random.Layer(50, types.DockerLayer)
		if err != nil {
			t.Fatal(err)
		}
		derived, err := mutate.AppendLayers(img, layer)
		if err != nil {
			t.Fatal(err)
		}
		pushV2(t, r.Addr, fmt.Sprintf("many/app:v%d", i), derived)
	}
	c := newClient(t, r.Addr, "", "")
	var tags map[string]string
	c.do("GET", r.Addr, "/v1/repositories/many/app/tags", nil).want(t, 200).decode(t, &tags)
	var listed []struct{ ID, Tag string }
	c.ask("GET", "/v1/repositories/many/app/images", nil).want(t, 200).decode(t, &listed)
	if len(tags) != n || len(listed) != n+1 { // they share a base
		t.Fatal(len(tags), len(listed))
	}
	for _, l := range listed {
		if l.Tag != "" && tags[l.Tag] != l.ID {
			t.Fatalf("%s is %s here and %s there", l.Tag, l.ID, tags[l.Tag])
		}
	}
	c.pull("many/app", "v7")
}
