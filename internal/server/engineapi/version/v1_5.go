package version

import (
	"encoding/base64"
	"fmt"
	"strings"

	"longshore/internal/base/jsontree"
)

// v1_5 is what 1.5 changed against 1.4 (changelog, "v1.5 API changes"; original document of 1.4).
func v1_5() Rung {
	return Rung{Version: "1.5", Source: "version-history.md, original/docker_remote_api_v1.4.rst", Changes: []Change{
		{What: "rm of a build", Routes: []string{buildRoute}, Lift: func(r *Request) error {
			r.Query.Set("rm", "0")
			return nil
		}},
		{What: "ports as one text", Routes: []string{list}, LowerEach: portsText},
		{What: "credentials of a pull", Routes: []string{imagePull}, Lift: func(r *Request) error {
			r.HTTP.Header.Del("X-Registry-Auth")
			return nil
		}},
		{What: "credentials of a push in its body", Routes: []string{imagePush}, Lift: pushAuthFromBody},
	}}
}

// portsText writes "0.0.0.0:49153->22/tcp, 53/udp".
func portsText(v *View) {
	var out []string
	for _, p := range v.Body.Member("Ports").Items() {
		text := fmt.Sprintf("%d/%s", p.Member("PrivatePort").Int(), p.Member("Type").String())
		if pub := p.Member("PublicPort").Int(); pub != 0 {
			text = fmt.Sprintf("%s:%d->%s", p.Member("IP").String(), pub, text)
		}
		out = append(out, text)
	}
	v.Body.Set("Ports", strings.Join(out, ", "))
}

func pushAuthFromBody(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	r.HTTP.Header.Del("X-Registry-Auth")
	if body.Kind() == jsontree.Object && body.Len() > 0 {
		r.HTTP.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(body.AppendTo(nil)))
	}
	return nil
}
