// Validates YAML documents from standard input against the schemas of Kubernetes. A field that the
// validator never looks at is one that the schema does not have.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
const modules = `${process.cwd()}/node_modules/`;
const require = createRequire(modules);

const seen = new Set();
const watched = (value, path) => typeof value !== 'object' || value === null ? value :
  new Proxy(value, {
    get(target, key) {
      seen.add(`${path}.${String(key)}`);
      return watched(target[key], `${path}.${String(key)}`);
    },
  });
const fields = (value, path) => typeof value !== 'object' || value === null ? [path] :
  [path, ...Object.keys(value).flatMap((key) => fields(value[key], `${path}.${key}`))];

const kinds = { Deployment: 'AppsV1Deployment', Service: 'CoreV1Service' };
for (const document of require('yaml').parseAllDocuments(readFileSync(0, 'utf8'))) {
  const object = document.toJS();
  const schema = `kubernetes-models/_schemas/IoK8sApi${kinds[object.kind]}.js`;
  const { validate } = require(modules + schema);
  const valid = validate(watched(object, object.kind));
  const unknown = fields(object, object.kind).slice(1).filter((path) => !seen.has(path));
  console.log(object.kind, valid && !unknown.length ? 'is valid' : [validate.errors, unknown]);
}
