"""What moves on the page: a cursor through all charts, and the panel that reads the frame under it.

Plain DOM, no library; without JavaScript the page still shows everything but the panel.
"""

SCRIPT = """
(function () {
  'use strict';
  var holder = document.getElementById('data'), panel = document.getElementById('panel');
  if (!holder || !panel) return;
  var data = JSON.parse(holder.textContent), at = {}, held = null;
  document.body.classList.add('js');
  panel.hidden = false;
  data.columns.forEach(function (name, index) { at[name] = index; });
  var plots = Array.prototype.slice.call(document.querySelectorAll('[data-plot]'));
  var pairs = Array.prototype.slice.call(document.querySelectorAll('.pair'));
  var pictures = panel.querySelector('.images'), where = panel.querySelector('.where');
  var list = panel.querySelector('dl');
  var less = ['first_source', 'first_output', 'border_source', 'border_output'];

  function rowAt(frame, track) {
    var best = null, distance = Infinity;
    data.rows.forEach(function (row) {
      var elsewhere = track !== null && row[at.track] !== track;
      var d = Math.abs(row[at.frame] - frame) + (elsewhere ? 1e6 : 0);
      if (d < distance) { best = row; distance = d; }
    });
    return best;
  }
  function pairAt(frame, track) {
    var best = null, distance = Infinity;
    pairs.forEach(function (pair) {
      var d = Math.abs(pair.dataset.frame - frame) + (+pair.dataset.track === track ? 0 : 1e6);
      if (d < distance) { best = pair; distance = d; }
    });
    return best;
  }
  function text(tag, words, css) {
    var element = document.createElement(tag);
    element.textContent = words;
    if (css) element.className = css;
    return element;
  }
  function show(frame, track) {
    frame = Math.max(0, Math.min(data.frames - 1, frame));
    plots.forEach(function (plot) {
      var cursor = plot.querySelector('.cursor');
      cursor.style.display = 'block';
      cursor.style.left = (frame + 0.5) / data.frames * 100 + '%';
    });
    var row = rowAt(frame, track), present = row[at.frame] === frame;
    panel.dataset.frame = frame;
    where.textContent = 'Frame ' + frame;
    list.textContent = '';
    pictures.textContent = '';
    if (!present) { where.appendChild(text('small', 'no face here')); return; }
    var pair = pairAt(frame, row[at.track]), words = row[at.seconds].toFixed(2) + ' s';
    if (data.many) words += ', track ' + row[at.track];
    if (row[at.reasons].length) words += ', ' + row[at.reasons].join(' and ');
    if (pair) {
      pair.querySelectorAll('img').forEach(function (image) {
        pictures.appendChild(image.cloneNode());
      });
      if (+pair.dataset.frame !== frame) words += ' (picture of frame ' + pair.dataset.frame + ')';
    }
    where.appendChild(text('small', words));
    Object.keys(data.labels).forEach(function (name) {
      var value = row[at[name]], css = less.indexOf(name) < 0 ? '' : 'less';
      list.appendChild(text('dt', data.labels[name], css));
      list.appendChild(text('dd', value === null ? '\\u2013' : value.toFixed(2), css));
    });
  }
  function hold(frame, track) {
    held = { frame: frame, track: track };
    show(frame, track);
    var row = rowAt(frame, track), pair = pairAt(frame, row[at.track]);
    pairs.forEach(function (other) { other.classList.toggle('held', other === pair); });
  }
  function frameOf(plot, event) {
    var box = plot.getBoundingClientRect();
    return Math.floor((event.clientX - box.left) / box.width * data.frames);
  }
  plots.forEach(function (plot) {
    plot.addEventListener('pointermove', function (event) { show(frameOf(plot, event), null); });
    plot.addEventListener('pointerleave', function () { if (held) show(held.frame, held.track); });
    plot.addEventListener('click', function (event) { hold(frameOf(plot, event), null); });
  });
  document.querySelectorAll('button[data-frame]').forEach(function (button) {
    button.addEventListener('click', function () {
      hold(+button.dataset.frame, +button.dataset.track);
      plots[0].closest('section').scrollIntoView();
    });
  });
  document.addEventListener('keydown', function (event) {
    var step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (!step || !held) return;
    event.preventDefault();
    hold(Math.max(0, Math.min(data.frames - 1, held.frame + step)), held.track);
  });
  var first = document.querySelector('.chip[data-frame], .pair');
  if (first) hold(+first.dataset.frame, +first.dataset.track);
})();
"""
