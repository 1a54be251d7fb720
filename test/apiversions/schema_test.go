package apiversions

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"gopkg.in/yaml.v3"

	"longshore/test/harness"
)

// published reads a version's Swagger document.
func published(t *testing.T, version string) *openapi3.T {
	t.Helper()
	f, err := os.Open("testdata/engine-v" + version + ".yaml.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := yaml.NewDecoder(z).Decode(&tree); err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(textKeys(tree))
	if err != nil {
		t.Fatal(err)
	}
	var v2 openapi2.T
	if err := json.Unmarshal(doc, &v2); err != nil {
		t.Fatal(err)
	}
	v3, err := openapi2conv.ToV3(&v2)
	if err != nil {
		t.Fatal(err)
	}
	return v3
}

// textKeys makes the keys of all maps strings, as JSON has them.
func textKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = textKeys(e)
		}
	case map[any]any:
		out := map[string]any{}
		for k, e := range v {
			out[fmt.Sprint(k)] = textKeys(e)
		}
		return out
	case []any:
		for i := range v {
			v[i] = textKeys(v[i])
		}
	}
	return v
}

// response finds the schema of an operation's answer; nil if the document has none.
func response(doc *openapi3.T, method, pattern string, status int) (schema *openapi3.Schema, known bool) {
	item := doc.Paths.Value(pattern)
	if item == nil || item.GetOperation(method) == nil {
		return nil, false
	}
	ref := item.GetOperation(method).Responses.Status(status)
	if ref == nil || ref.Value == nil {
		return nil, false
	}
	for _, media := range ref.Value.Content {
		if media.Schema != nil && media.Schema.Value != nil {
			return media.Schema.Value, true
		}
	}
	return nil, true
}

// tolerate lets null stand for what is not there, as daemons always sent it.
func tolerate(s *openapi3.Schema, seen map[*openapi3.Schema]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	s.Nullable = true
	s.Format = strings.TrimPrefix(s.Format, "dateTime")
	for _, p := range s.Properties {
		tolerate(p.Value, seen)
	}
	if s.Items != nil {
		tolerate(s.Items.Value, seen)
	}
	if s.AdditionalProperties.Schema != nil {
		tolerate(s.AdditionalProperties.Schema.Value, seen)
	}
	for _, part := range s.AllOf {
		tolerate(part.Value, seen)
	}
}

// slips are places where the documents of 1.25 and 1.33 say another type than any daemon sent.
var slips = []string{"IPAM.Options: ", "PortBindings/80/tcp", "NetworkSettings.Ports: ", "Containers.0: ", "ExecIDs: "}

func slip(version, complaint string) bool {
	if version != "1.25" && version != "1.33" {
		return false
	}
	return slices.ContainsFunc(slips, func(s string) bool { return strings.Contains(complaint, s) })
}

// TestSchemas validates what the daemon answers against the published documents.
func TestSchemas(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("network", "create", "--subnet", "10.98.0.0/24", "front")
	id := d.OK("run", "-d", "--name", "web", "--network", "front", "-p", "127.0.0.1:8080:80", "-v", "data:/data", "-l", "a=b", "-m", "64m",
		"--health-cmd", "true", "--restart", "always", "busybox", "sleep", "1000")
	for _, version := range []string{"1.25", "1.33", "1.41", "1.44", "1.55"} {
		t.Run(version, func(t *testing.T) {
			doc := published(t, version)
			c := v(t, d, version)
			check := func(method, pattern, path string, status int, body string) answer {
				t.Helper()
				a := c.want(status, method, path, body)
				schema, known := response(doc, method, pattern, status)
				if !known {
					t.Errorf("%s %s: the document has no answer %d", method, pattern, status)
					return a
				}
				if schema == nil || a.body == "" {
					return a
				}
				tolerate(schema, map[*openapi3.Schema]bool{})
				for _, c := range complaints(schema.VisitJSON(a.json(t), openapi3.MultiErrors())) {
					if !slip(version, c) {
						t.Errorf("%s %s: %s", method, pattern, c)
					}
				}
				return a
			}
			checkAll(t, version, id, check)
		})
	}
}

// complaints parts an error of the validation.
func complaints(err error) []string {
	var many openapi3.MultiError
	if err == nil {
		return nil
	} else if !errors.As(err, &many) {
		return []string{err.Error()}
	}
	var all []string
	for _, e := range many {
		var s *openapi3.SchemaError
		if errors.As(e, &s) {
			all = append(all, fmt.Sprintf("%s: %s %v", strings.Join(s.JSONPointer(), "."), s.Reason, s.Origin))
			continue
		}
		all = append(all, e.Error())
	}
	return all
}

// checkAll asks for every document that the versions know.
func checkAll(t *testing.T, version, id string, check func(method, pattern, path string, status int, body string) answer) {
	for pattern, path := range map[string]string{
		"/containers/json": "/containers/json?all=1&size=1", "/containers/{id}/json": "/containers/" + id + "/json?size=1",
		"/containers/{id}/top": "/containers/web/top", "/containers/{id}/changes": "/containers/web/changes",
		"/containers/{id}/stats": "/containers/web/stats?stream=0", "/images/json": "/images/json?all=1", "/images/{name}/json": "/images/busybox/json",
		"/images/{name}/history": "/images/busybox/history", "/info": "/info", "/version": "/version", "/networks": "/networks",
		"/networks/{id}": "/networks/front", "/volumes": "/volumes", "/volumes/{name}": "/volumes/data", "/system/df": "/system/df",
	} {
		check("GET", pattern, path, 200, "")
	}
	made := check("POST", "/containers/create", "/containers/create", 201, `{"Image":"busybox","Cmd":["true"]}`).object(t)["Id"].(string)
	check("POST", "/containers/{id}/start", "/containers/"+made+"/start", 204, "")
	check("POST", "/containers/{id}/wait", "/containers/"+made+"/wait", 200, "")
	check("POST", "/containers/{id}/update", "/containers/"+made+"/update", 200, `{"CpuShares":128}`)
	check("POST", "/commit", "/commit?container="+made+"&repo=schema&tag=v"+version, 201, "{}")
	check("DELETE", "/images/{name}", "/images/schema:v"+version, 200, "")
	check("DELETE", "/containers/{id}", "/containers/"+made, 204, "")
	exec := check("POST", "/containers/{id}/exec", "/containers/web/exec", 201, `{"AttachStdout":true,"Cmd":["true"]}`).object(t)["Id"].(string)
	check("GET", "/exec/{id}/json", "/exec/"+exec+"/json", 200, "")
	check("POST", "/volumes/create", "/volumes/create", 201, `{"Name":"made","Labels":{"a":"b"}}`)
	check("DELETE", "/volumes/{name}", "/volumes/made", 204, "")
	net := check("POST", "/networks/create", "/networks/create", 201, `{"Name":"made`+version+`"}`).object(t)["Id"].(string)
	check("DELETE", "/networks/{id}", "/networks/"+net, 204, "")
	check("GET", "/containers/{id}/json", "/containers/nosuch/json", 404, "")
	for _, kind := range []string{"containers", "images", "volumes", "networks"} {
		check("POST", "/"+kind+"/prune", "/"+kind+"/prune?filters=%7B%22label%22:%5B%22none%22%5D%7D", 200, "")
	}
}
