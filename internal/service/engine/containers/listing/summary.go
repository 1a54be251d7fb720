package listing

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	core "longshore/internal/core/container"
	"longshore/internal/service/engine/containers/mounts"
)

// summary is what a record tells of its container; the rest is the Item's.
func summary(rec *core.Record) *container.Summary {
	p, args := rec.Command()
	ns := NetworkSettings(rec)
	s := &container.Summary{
		ID: rec.ID, ImageID: rec.Image.ID.String(), ImageManifestDescriptor: rec.Image.Manifest,
		Command: command(p, args), Created: rec.Created.Unix(), Ports: ports(rec, ns), Labels: rec.Config.Labels,
		State: rec.State.Status(), Health: rec.State.HealthSummary(), Mounts: mounts.Points(rec.Mounts),
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
	type made struct {
		name string
		id   digest.Digest
	}
	told := map[made]string{}
	var last made // as a rule the neighbours are of one image
	var answer string
	return func(rec *core.Record) string {
		k := made{rec.Config.Image, rec.Image.ID}
		if k == last {
			return answer
		}
		name, ok := told[k]
		if !ok {
			name = ask(rec)
			told[k] = name
		}
		last, answer = k, name
		return name
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
