package main

import (
	"embed"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/chainreactions/chainreactions/web"
)

// The licences of all that is in the binary and is not ours travel in it:
// bundled.txt is kept by hand, modules.txt is written from the modules that the
// binary is linked of (go test ./app -run TestNotices -update), and the portal's
// part by its build.
//
//go:embed notices/*.txt
var notices embed.FS

func licensesCommand() *cobra.Command {
	return &cobra.Command{Use: "licenses", Short: "Print the licences of everything in this binary that is not ours", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return writeNotices(cmd.OutOrStdout(), web.Embedded())
	}}
}

func writeNotices(w io.Writer, portal *web.Portal) error {
	for _, name := range []string{"bundled.txt", "modules.txt"} {
		text, err := notices.ReadFile("notices/" + name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
			return err
		}
	}
	if !portal.Built() {
		return nil
	}
	a := portal.Open("licenses.md", "")
	if a.Status != 200 {
		return fmt.Errorf("the portal was built without licenses.md")
	}
	_, err := w.Write(a.Body)
	return err
}
