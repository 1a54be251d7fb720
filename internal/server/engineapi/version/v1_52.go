package version

import (
	"slices"
	"strings"

	"longshore/internal/base/jsontree"
	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// v1_52 is what 1.52 changed against 1.51 (changelog, "v1.52 API changes"; daemon source of 29.0).
func v1_52() Rung {
	return Rung{Version: "1.52", Source: "version-history.md", Changes: []Change{
		{What: "Config.MacAddress became an endpoint's setting", Routes: []string{create}, Lift: macToEndpoint, Lower: warnOfMAC},
		{What: "a warning of ports with an empty list of bindings", Routes: []string{create}, Lower: dropBindingsWarning},
		{What: "a command as one text", Routes: []string{create, commitRoute, execCreate}, Lift: commandToList},
		{What: "Health in the container list", Routes: []string{list}, LowerEach: hideFields("Health")},
		{What: "OnBuild omitted when empty; NetworkSettings without the default bridge's address; Storage instead of GraphDriver", Routes: []string{inspect}, Lower: inspectBelow52},
		{What: "os_type of stats", Routes: []string{stats}, LowerEach: hideFields("os_type"), Lower: hideFields("os_type")},
		{What: "status, id and from of events", Routes: []string{eventsRoute}, Lift: func(r *Request) error {
			r.HTTP.Header.Del("Accept")
			return nil
		}, LowerEach: legacyEvent, Reply: plainJSONType},
		{What: "empty fields of an image are omitted", Routes: []string{imageInspect}, Lower: imageBelow52},
		{What: "KernelMemoryTCP of info", Routes: []string{info}, Lower: func(v *View) { v.Body.Default("KernelMemoryTCP", false) }},
		{What: "IPAM statistics of a network", Routes: []string{networkShow}, Lower: hideFields("Status")},
		{What: "only the new form of disk usage", Routes: []string{df}, Lower: onlyLegacyDiskUsage, Lift: dropQuery("verbose")},
		{What: "several platform queries", Routes: []string{imageGet, imageLoad}, Lift: onePlatform},
	}}
}

// macToEndpoint moves a container-wide MAC address to the endpoint of the network mode, where the newest API has it.
func macToEndpoint(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	mac := body.Member("MacAddress")
	if mac.Empty() {
		body.Delete("MacAddress")
		return nil
	}
	r.Note(containerMAC)
	body.Delete("MacAddress")
	mode := body.At("HostConfig", "NetworkMode").String()
	switch {
	case mode == "", mode == "bridge":
		mode = "default"
	case !hasEndpoint(mode):
		return nil
	}
	all := body.Ensure("NetworkingConfig").Ensure("EndpointsConfig")
	for _, name := range all.Keys() {
		if name == mode || (mode == "default" && name == "bridge") || all.Len() == 1 {
			mode = name
			break
		}
	}
	ep := all.Ensure(mode)
	switch own := ep.Member("MacAddress"); {
	case own.Empty():
		ep.Set("MacAddress", mac.String())
	case own.String() != mac.String():
		return fault.Invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be omitted")
	}
	return nil
}

// Remarks of a create: it has a container-wide MAC address, and its version knows no other.
const (
	containerMAC = "container-wide MAC address"
	onlyMAC      = "no other MAC address"
)

// warnOfMAC adds the warning that the versions with both kinds of MAC addresses give.
func warnOfMAC(v *View) {
	if v.Request.Noted(containerMAC) && !v.Request.Noted(onlyMAC) {
		v.Body.Set("Warnings", append(v.Body.Member("Warnings").Strings(), "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."))
	}
}

// dropBindingsWarning leaves out the warning that versions below 1.52 do not give.
func dropBindingsWarning(v *View) {
	warnings := v.Body.Member("Warnings").Strings()
	if rest := slices.DeleteFunc(slices.Clone(warnings), func(w string) bool {
		return strings.HasPrefix(w, "Following container port(s) have an empty list of port-bindings: ")
	}); len(rest) < len(warnings) {
		v.Body.Set("Warnings", rest)
	}
}

// hasEndpoint tells whether a network mode puts the container on a network of its own.
func hasEndpoint(mode string) bool {
	return mode != "host" && mode != "none" && mode != "container" && !strings.HasPrefix(mode, "container:")
}

// commandToList makes lists of commands that are one text, which documents up to the newest allow and handlers of the
// newest do not read.
func commandToList(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	for _, f := range []string{"Cmd", "Entrypoint"} {
		m := body.Member(f)
		switch {
		case m.Kind() != jsontree.String:
		case m.Empty():
			body.Set(f, nil)
		default:
			body.Set(f, []string{m.String()})
		}
	}
	return nil
}

func inspectBelow52(v *View) {
	cfg := v.Body.Member("Config")
	cfg.Default("OnBuild", nil)
	if c, ok := v.Typed.(interface{ AskedMAC() string }); ok {
		if mac := c.AskedMAC(); mac != "" {
			cfg.Default("MacAddress", mac)
		}
	}
	if s := v.Body.Member("Storage"); s != nil {
		v.Body.Delete("Storage")
		name := s.At("RootFS", "Snapshot", "Name").String()
		v.Body.Set("GraphDriver", map[string]any{"Name": name, "Data": nil})
	}
	ns := v.Body.Member("NetworkSettings")
	if ns.Kind() != jsontree.Object {
		return
	}
	ns.Default("Bridge", "")
	ns.Default("HairpinMode", false)
	ns.Default("LinkLocalIPv6Address", "")
	ns.Default("LinkLocalIPv6PrefixLen", 0)
	ns.Default("SecondaryIPAddresses", nil)
	ns.Default("SecondaryIPv6Addresses", nil)
	bridge := ns.At("Networks", "bridge")
	for _, f := range []string{"EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"} {
		ns.Default(f, bridge.Member(f).String())
	}
	for _, f := range []string{"GlobalIPv6PrefixLen", "IPPrefixLen"} {
		ns.Default(f, bridge.Member(f).Int())
	}
}

// legacyEvent adds what events before 1.52 carried beside Action and Actor.
func legacyEvent(v *View) {
	switch v.Body.Member("Type").String() {
	case "container":
		v.Body.Default("status", v.Body.Member("Action").String())
		v.Body.Default("id", v.Body.At("Actor", "ID").String())
		v.Body.Default("from", v.Body.At("Actor", "Attributes", "image").String())
	case "image", "plugin":
		v.Body.Default("status", v.Body.Member("Action").String())
		v.Body.Default("id", v.Body.At("Actor", "ID").String())
	}
}

// plainJSONType announces a stream as application/json, as before content types were negotiated.
func plainJSONType(_ *route.Request, resp route.Response) (route.Response, error) {
	if l, ok := resp.(route.Lines); ok {
		l.Header = l.Header.Clone()
		l.Header.Del("Content-Type")
		return l, nil
	}
	return resp, nil
}

func imageBelow52(v *View) {
	v.Body.Default("GraphDriver", map[string]any{"Name": "overlayfs", "Data": nil})
	for _, f := range []string{"Parent", "Comment", "DockerVersion", "Author"} {
		v.Body.Default(f, "")
	}
	cfg := v.Body.Member("Config")
	for _, f := range []string{"Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"} {
		cfg.Default(f, nil)
	}
	for _, f := range []string{"User", "WorkingDir"} {
		cfg.Default(f, "")
	}
}

// onePlatform refuses more than one platform, which only 1.52 understands.
func onePlatform(r *Request) error {
	if len(r.Query["platform"]) > 1 {
		return invalid("only one platform can be given before API version 1.52")
	}
	return nil
}
