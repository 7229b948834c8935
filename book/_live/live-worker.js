/* Runs a chapter's cells: Pyodide and the book's modules, from the folder that this script lies in. */
let python, page, done = 0;
const say = message => postMessage(message);

// every file is counted as it arrives, also those that Pyodide itself asks for
const plain = self.fetch.bind(self);
self.fetch = async (...request) => {
  const answer = await plain(...request);
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status}`);
  const counter = new TransformStream({
    transform(chunk, out) { done += chunk.byteLength; say({ loaded: done }); out.enqueue(chunk); },
  });
  return new Response(answer.body.pipeThrough(counter), { headers: answer.headers });
};

async function load() {
  const here = new URL(".", self.location).href;
  importScripts("pyodide.js");
  python = await loadPyodide({ indexURL: here, lockFileURL: here + "pyodide-lock.json", env: { MPLBACKEND: "agg" } });
  await python.loadPackage(["numpy", "scipy", "matplotlib"], { messageCallback() {}, errorCallback(text) { throw new Error(text); } });
  for (const name of Object.keys(page.archives)) {
    python.unpackArchive(await (await fetch(name)).arrayBuffer(), "zip", { extractDir: "/book" });
  }
  python.runPython("import sys; sys.path.insert(0, '/book/code')");
  python.globals.set("say", text => say(JSON.parse(text)));
}

onmessage = async ({ data }) => {
  try {
    if (data.page) {
      page = data.page;
      await load();
      say({ ready: true });
    } else {
      python.globals.set("asked", JSON.stringify({ cells: page.cells, values: data.values }));
      python.runPython(`
import json
from companion import execute
from companion.files import to_json
given = json.loads(asked)
execute(given["cells"], given["values"], lambda found: say(to_json(found)))`);
      say({ finished: true });
    }
  } catch (error) {
    say({ error: String(error.message ?? error).trim().split("\n").pop() });
  }
};
