package listing

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	core "longshore/internal/core/container"
)

// Summary is one element of a list; the caller fills in what only the images know (name, sizes).
func Summary(rec *core.Record, now time.Time, ns *container.NetworkSettings, points []container.MountPoint) *container.Summary {
	p, args := rec.Command()
	s := &container.Summary{
		ID: rec.ID, Names: []string{"/" + rec.Name}, ImageID: rec.Image.ID.String(), ImageManifestDescriptor: rec.Image.Manifest,
		Command: command(p, args), Created: rec.Created.Unix(), Ports: ports(rec, ns), Labels: rec.Config.Labels,
		State: rec.State.Status(), Status: rec.State.Sentence(now), Health: rec.State.HealthSummary(), Mounts: points,
		NetworkSettings: &container.NetworkSettingsSummary{Networks: ns.Networks},
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.HostConfig.NetworkMode = string(rec.HostConfig.NetworkMode)
	s.HostConfig.Annotations = rec.HostConfig.Annotations
	return s
}

// PerImage asks once for containers that were made from the same name of the same image.
func PerImage(ask func(*core.Record) string) func(*core.Record) string {
	type made struct{ name, id string }
	told := map[made]string{}
	return func(rec *core.Record) string {
		k := made{rec.Config.Image, rec.Image.ID.String()}
		if _, ok := told[k]; !ok {
			told[k] = ask(rec)
		}
		return told[k]
	}
}

// command is the COMMAND column: arguments with spaces are quoted.
func command(p string, args []string) string {
	var b strings.Builder
	b.WriteString(p)
	for _, a := range args {
		b.WriteByte(' ')
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		b.WriteString(a)
	}
	return b.String()
}

// ports are the published ports and the exposed ones that are not published, of a running container.
func ports(rec *core.Record, ns *container.NetworkSettings) []container.PortSummary {
	out := []container.PortSummary{}
	if !rec.State.Live() {
		return out
	}
	seen := map[network.Port]bool{}
	for p, bindings := range ns.Ports {
		seen[p] = true
		if len(bindings) == 0 {
			out = append(out, container.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
		for _, b := range bindings {
			n, _ := strconv.ParseUint(b.HostPort, 10, 16)
			ip := b.HostIP
			if !ip.IsValid() {
				ip = netip.IPv4Unspecified()
			}
			out = append(out, container.PortSummary{IP: ip, PrivatePort: p.Num(), PublicPort: uint16(n), Type: string(p.Proto())})
		}
	}
	for p := range rec.Config.ExposedPorts {
		if !seen[p] {
			out = append(out, container.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b container.PortSummary) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		if c := strings.Compare(a.Type, b.Type); c != 0 {
			return c
		}
		if a.PublicPort != b.PublicPort {
			return int(a.PublicPort) - int(b.PublicPort)
		}
		return a.IP.Compare(b.IP)
	})
	return out
}
