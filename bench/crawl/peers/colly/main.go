// The shop by Colly, 32 requests at a time. Keeps products as JSON lines.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/gocolly/colly/v2"
)

func main() {
	start, err := url.Parse(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	file, err := os.Create(filepath.Join(os.Args[2], "products.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	buffered := bufio.NewWriter(file)
	out := json.NewEncoder(buffered)
	var writing sync.Mutex

	c := colly.NewCollector(colly.Async(true), colly.AllowedDomains(start.Hostname()))
	if err := c.Limit(&colly.LimitRule{DomainGlob: "*", Parallelism: 32}); err != nil {
		log.Fatal(err)
	}
	c.OnHTML("article.product", func(e *colly.HTMLElement) {
		writing.Lock()
		defer writing.Unlock()
		err := out.Encode(map[string]string{
			"title": e.ChildText("h1"), "price": e.ChildText(".amount"), "sku": e.ChildText(".sku"),
			"stock": e.ChildText(".product__stock"), "brand": e.ChildText(".brand"),
		})
		if err != nil {
			log.Print(err)
		}
	})
	c.OnHTML("a[href]", func(e *colly.HTMLElement) {
		_ = e.Request.Visit(e.Attr("href")) // says so when it is known already
	})
	if err := c.Visit(start.String()); err != nil {
		log.Fatal(err)
	}
	c.Wait()
	if err := buffered.Flush(); err != nil {
		log.Fatal(err)
	}
}
