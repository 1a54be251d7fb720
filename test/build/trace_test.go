package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/protobuf/proto"
)

// TestTrace reads the stream of version=2: BuildKit's records, then the image.
func TestTrace(t *testing.T) {
	d := start(t)
	a := post(d, "1.41", "version=2&t=traced", bytes.NewReader(files{"Dockerfile": "FROM busybox\nRUN echo traced | tee /f\n"}.tar(t)))
	var names, logs, image string
	dec := json.NewDecoder(strings.NewReader(a.body))
	for dec.More() {
		var line struct {
			ID  string
			Aux json.RawMessage
		}
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		switch line.ID {
		case "moby.buildkit.trace":
			var doc []byte
			var status controlapi.StatusResponse
			if json.Unmarshal(line.Aux, &doc) != nil || proto.Unmarshal(doc, &status) != nil {
				t.Fatalf("%s", line.Aux)
			}
			for _, v := range status.Vertexes {
				names += v.Name + "\n"
			}
			for _, l := range status.Logs {
				logs += string(l.Msg)
			}
		case "moby.image.id":
			var id struct{ ID string }
			if err := json.Unmarshal(line.Aux, &id); err != nil {
				t.Fatal(err)
			}
			image = id.ID
		default:
			t.Errorf("%+v", line)
		}
	}
	if !strings.Contains(names, "[2/2] RUN echo traced | tee /f") || logs != "traced\n" || image == "" || image != d.OK("inspect", "-f", "{{.Id}}", "traced") {
		t.Errorf("%s\n%s\n%s", names, logs, image)
	}
	filters := url.QueryEscape(`{"type":["image"],"event":["create"]}`)
	events, err := d.Client().Get(fmt.Sprintf("http://d/v1.52/events?since=0&until=%d&filters=%s", time.Now().Unix()+1, filters))
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	if told, err := io.ReadAll(events.Body); err != nil || !strings.Contains(string(told), `"ID":"`+image+`"`) {
		t.Errorf("no event tells of %s: %s %v", image, told, err)
	}
	failed := post(d, "1.41", "version=2", bytes.NewReader(files{"Dockerfile": "FROM busybox\nRUN exit 7\n"}.tar(t)))
	if !strings.Contains(failed.body, `"errorDetail":{"message":`) || !strings.Contains(failed.body, "exit code: 7") {
		t.Error(failed.body)
	}
	// Clients below 1.38 do not know the parameter, those below 1.30 no aux.
	if old := post(d, "1.21", "version=2", bytes.NewReader(files{"Dockerfile": "FROM busybox\n"}.tar(t))); !strings.Contains(old.body, "Successfully built") || strings.Contains(old.body, "aux") {
		t.Error(old.body)
	}
}
