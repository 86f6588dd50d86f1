// Tells the page where the browser went back or forward to. The library would ask for the page again and be given the
// same address as before, since it takes nothing from one but at the beginning.

let tell = () => {};

addEventListener("popstate", (event) => {
  event.stopImmediatePropagation();
  tell("went", location.search);
}, true); // before the library's own

const push = history.pushState.bind(history);

function butForPlace(search) {
  const parameters = new URLSearchParams(search);
  parameters.delete("at");
  return String(parameters);
}

// who marked a hundred pairs need not go back a hundred times
history.pushState = (state, title, address) => {
  const next = new URL(address, location.href);
  const isStep = next.pathname === location.pathname && butForPlace(next.search) === butForPlace(location.search);
  if (isStep) history.replaceState(state, title, address);
  else push(state, title, address);
};

export default function ({ setTriggerValue }) {
  tell = setTriggerValue;
}
