package engine

import (
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestVolumeEvents: docker's events of volumes that containers use, with its attributes.
func TestVolumeEvents(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	begin := time.Now().Add(-time.Second).Format(time.RFC3339Nano)
	id := d.OK("create", "-v", "data:/in:ro", "--mount", "type=volume,source=other,target=/out", "busybox", "true")
	d.OK("start", "-a", id)
	d.OK("rm", id)
	d.OK("volume", "rm", "data", "other")
	out := d.OK("events", "--since", begin, "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano), "--filter", "type=volume", "--format",
		`{{.Actor.ID}} {{.Action}} {{.Actor.Attributes.driver}} {{.Actor.Attributes.destination}} {{index .Actor.Attributes "read/write"}} {{.Actor.Attributes.container}}`)
	const none = "<no value>"
	for _, want := range []string{
		"data create local " + none + "  " + none,
		"data mount local /in false " + id,
		"other mount local /out true " + id,
		"data unmount local " + none + "  " + id,
		"data destroy local " + none + "  " + none,
	} {
		if strings.Count(out+"\n", want+"\n") != 1 {
			t.Errorf("%q is not there once:\n%s", want, out)
		}
	}
}

// TestForwardingIsKnown: info tells what the networks have made of the host, not what they found.
func TestForwardingIsKnown(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	if out := d.OK("info", "-f", "{{.IPv4Forwarding}} {{.Warnings}}"); !strings.HasPrefix(out, "true") || strings.Contains(out, "forwarding is disabled") {
		t.Errorf("info says %q", out)
	}
}
