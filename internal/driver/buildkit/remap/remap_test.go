package remap

import (
	"slices"
	"testing"
)

// TestLayers: what the kernel tells of overlay mounts. BuildKit mounts many layers by their paths below what they have in common.
func TestLayers(t *testing.T) {
	for _, c := range []struct {
		options string
		want    []string
	}{
		{"rw,lowerdir=/d/snapshots/2/fs:/d/snapshots/1/fs,upperdir=/d/snapshots/3/fs,workdir=/d/snapshots/3/work,index=off,uuid=on,metacopy=off",
			[]string{"lowerdir=/d/snapshots/2/fs:/d/snapshots/1/fs", "upperdir=/d/snapshots/3/fs", "workdir=/d/snapshots/3/work", "index=off"}},
		{"rw,lowerdir=2/fs:1/fs,upperdir=/d/snapshots/3/fs,workdir=/d/snapshots/3/work",
			[]string{"lowerdir=/d/snapshots/2/fs:/d/snapshots/1/fs", "upperdir=/d/snapshots/3/fs", "workdir=/d/snapshots/3/work"}},
		{"ro,lowerdir=/d/snapshots/2/fs:/d/snapshots/1/fs", []string{"lowerdir=/d/snapshots/2/fs:/d/snapshots/1/fs"}},
	} {
		if got := layers(c.options); !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %q\nwant %q", c.options, got, c.want)
		}
	}
}
