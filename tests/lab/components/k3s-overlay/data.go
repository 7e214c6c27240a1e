// Copyright: nordic.gitops contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What k3s' outer program unpacks: an archive at the end of its own file, and behind it one line with its checksum and length.

package data

import (
	"fmt"
	"io"
	"os"
)

const lineLength = 64 + 1 + 15 + 1

// AssetNames lists the archive, which is named by its checksum.
func AssetNames() []string {
	file, _, sum := open()
	file.Close()
	return []string{sum + ".tar.zst"}
}

// Asset returns its bytes.
func Asset(string) ([]byte, error) {
	file, length, _ := open()
	defer file.Close()
	if _, err := file.Seek(-length-lineLength, io.SeekEnd); err != nil {
		return nil, err
	}
	content := make([]byte, length)
	_, err := io.ReadFull(file, content)
	return content, err
}

func open() (*os.File, int64, string) {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	if _, err := file.Seek(-lineLength, io.SeekEnd); err != nil {
		panic(err)
	}
	var length int64
	var sum string
	if _, err := fmt.Fscanf(file, "%64s %d\n", &sum, &length); err != nil {
		panic(fmt.Sprintf("this file does not end with what it has to unpack: %v", err))
	}
	return file, length, sum
}
