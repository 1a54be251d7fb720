package version

import (
	"encoding/base64"
	"encoding/json"

	"longshore/internal/base/jsontree"
)

// v1_9 is what 1.9 changed against 1.8 (changelog, "v1.9 API changes"; original document of 1.8).
func v1_9() Rung {
	return Rung{Version: "1.9", Source: "version-history.md, original/docker_remote_api_v1.8.rst", Changes: []Change{
		{What: "one registry's credentials of a build", Routes: []string{buildRoute}, Lift: buildAuthBelow9},
		{What: "configuration of a commit lay in the run query", Routes: []string{commitRoute}, Lift: runIntoBody},
	}}
}

// runIntoBody moves a commit's configuration from the run query to the body.
func runIntoBody(r *Request) error {
	run := r.Query.Get("run")
	if run == "" {
		return nil
	}
	r.Query.Del("run")
	v, err := jsontree.Parse([]byte(run))
	if err != nil {
		return invalid("run: " + err.Error())
	}
	r.SetJSON(v)
	return nil
}

// buildAuthBelow9 turns the one X-Registry-Auth into the X-Registry-Config of today: registry to credentials.
func buildAuthBelow9(r *Request) error {
	h := r.HTTP.Header
	h.Del("X-Registry-Config")
	text := h.Get("X-Registry-Auth")
	h.Del("X-Registry-Auth")
	if text == "" {
		return nil
	}
	doc, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		return nil // daemons of that day went on without credentials
	}
	var auth map[string]any
	if json.Unmarshal(doc, &auth) != nil {
		return nil
	}
	server, _ := auth["serveraddress"].(string)
	if server == "" {
		server = "https://index.docker.io/v1/"
	}
	all, err := json.Marshal(map[string]any{server: auth})
	if err != nil {
		return err
	}
	h.Set("X-Registry-Config", base64.URLEncoding.EncodeToString(all))
	return nil
}
