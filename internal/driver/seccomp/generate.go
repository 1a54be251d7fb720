//go:build ignore

// Generate writes numbers/<GOARCH>.txt, one "name number" a line, from the constants of golang.org/x/sys/unix.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		log.Fatal(err)
	}
	constant := regexp.MustCompile(`(?m)^\s+SYS_([A-Z0-9_]+)\s+= (\d+)$`)
	for _, arch := range []string{"amd64", "386", "arm64", "arm"} {
		src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "unix", "zsysnum_linux_"+arch+".go"))
		if err != nil {
			log.Fatal(err)
		}
		var buf bytes.Buffer
		for _, m := range constant.FindAllSubmatch(src, -1) {
			fmt.Fprintf(&buf, "%s %s\n", strings.ToLower(string(m[1])), m[2])
		}
		if arch == "arm" { // the private ones, and libseccomp's name for one
			buf.WriteString("breakpoint 983041\ncacheflush 983042\nusr26 983043\nusr32 983044\nset_tls 983045\nsync_file_range2 341\n")
		}
		if err := os.WriteFile("numbers/"+arch+".txt", buf.Bytes(), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
