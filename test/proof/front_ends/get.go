package main

import (
	"fmt"
	"net/http"
)

func main() {
	answer, err := http.Get("http://localhost:8080")
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.Status)
}
