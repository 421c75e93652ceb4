// A list of any number of results, of which only pages that are looked at are here.

const GALLERY_PAGE = 60; // results that are asked for at once
const GALLERY_PAGES_KEPT = 40;
const GALLERY_REQUESTS = 2; // at a time

/** The rows of a search. `changed` is called when rows or their number have. */
function GalleryRows(app, changed) {
  let search = {};
  let pages = new Map(); // number → rows, the last used last
  let stale = new Set(); // numbers of pages that are shown until they have come again
  let total = null; // null until the first answer
  let version = 0;
  let asked = new Set();
  let wanted = [];

  async function fetchPage(number, searched) {
    asked.add(number);
    try {
      const { data } = await app.ask("gallery.find", { ...search, offset: number * GALLERY_PAGE, limit: GALLERY_PAGE });
      if (searched !== version) return;
      pages.delete(number);
      pages.set(number, data.rows);
      stale.delete(number);
      for (const old of pages.keys()) {
        if (pages.size <= GALLERY_PAGES_KEPT) break;
        pages.delete(old);
      }
      total = data.total;
      changed();
    } catch (error) {
      if (searched !== version) return;
      app.tell(error.message, "error");
      if (!pages.has(number)) pages.set(number, []);
      stale.delete(number);
      total ??= 0;
      changed();
    } finally {
      if (searched === version) {
        asked.delete(number);
        fetchNext();
      }
    }
  }

  function fetchNext() {
    for (const number of wanted) {
      if (asked.size >= GALLERY_REQUESTS) return;
      if ((!pages.has(number) || stale.has(number)) && !asked.has(number)) fetchPage(number, version);
    }
  }

  return {
    get total() {
      return total;
    },
    get search() {
      return search;
    },
    /** The row of a place, if it is here. */
    at(index) {
      return pages.get(Math.floor(index / GALLERY_PAGE))?.[index % GALLERY_PAGE];
    },
    /** Rows from `first` up to `last` will be looked at: fetch those that aren't here. */
    want(first, last) {
      wanted = [];
      const end = total === null ? 0 : Math.min(last, total - 1);
      for (let number = Math.floor(first / GALLERY_PAGE); number <= Math.floor(Math.max(end, 0) / GALLERY_PAGE); number++) {
        wanted.push(number);
        if (pages.has(number)) {
          const rows = pages.get(number);
          pages.delete(number);
          pages.set(number, rows);
        }
      }
      fetchNext();
    },
    /** Another search: everything is asked for anew. */
    start(next) {
      search = next;
      version++;
      pages = new Map();
      stale = new Set();
      asked = new Set();
      total = null;
      changed();
    },
    /** Something on disk has changed: what is shown stays until it has come again. */
    reload() {
      version++;
      asked = new Set();
      stale = new Set(pages.keys());
      fetchNext();
    },
    /** Take in a row that has changed. */
    update(row) {
      for (const rows of pages.values()) {
        const place = rows.findIndex((one) => one.path === row.path);
        if (place >= 0) rows[place] = { ...row, size: rows[place].size };
      }
      changed();
    },
  };
}
