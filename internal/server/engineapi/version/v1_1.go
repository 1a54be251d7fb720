package version

import (
	"context"
	"fmt"
	"io"

	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// v1_1 is what 1.1 changed against 1.0 (changelog, "v1.1 API changes"; original document of 1.0).
func v1_1() Rung {
	return Rung{Version: "1.1", Source: "version-history.md, original/docker_remote_api_v1.0.rst", Changes: []Change{
		{What: "progress as plain text", Routes: []string{imagePull, imagePush, imageInsert}, Reply: plainText("application/vnd.docker.raw-stream")},
	}}
}

// plainText makes a Reply that writes a stream of JSON objects as the text of before.
func plainText(contentType string) func(*route.Request, route.Response) (route.Response, error) {
	return func(_ *route.Request, resp route.Response) (route.Response, error) {
		l, ok := resp.(route.Lines)
		if !ok {
			return resp, nil
		}
		return route.Raw{ContentType: contentType, Early: l.Early, Duplex: l.Duplex, Run: func(ctx context.Context, w io.Writer) error {
			wrote := false
			err := l.Run(ctx, func(obj any) error {
				v, err := jsontree.Of(obj)
				if err != nil {
					return err
				}
				n, err := io.WriteString(w, lineText(v))
				wrote = wrote || n > 0
				return err
			})
			if err != nil && wrote && l.ErrorLine {
				_, err = fmt.Fprintf(w, "Error: %s\r\n", err)
			}
			return err
		}}, nil
	}
}

// lineText is a progress object as text: a build's output as it is, "status progress" otherwise.
func lineText(v *jsontree.Value) string {
	if s := v.Member("stream"); s != nil {
		return s.String()
	}
	if e := v.Member("error").String(); e != "" {
		return "Error: " + e + "\r\n"
	}
	text := v.Member("status").String()
	if text == "" {
		return ""
	}
	if id := v.Member("id").String(); id != "" {
		text = id + ": " + text
	}
	if p := v.Member("progress").String(); p != "" {
		return text + " " + p + "\r"
	}
	return text + "\r\n"
}
