// Package apidoc is the description of the registry's API (OpenAPI 3) and a page that shows it. A test holds it against
// the routes.
package apidoc

import _ "embed" // the documents are files

// Document is the description.
//
//go:embed openapi.json
var Document []byte

// Page lists the operations for people. It loads nothing from elsewhere.
//
//go:embed page.html
var Page []byte
