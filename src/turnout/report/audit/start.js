// Everything is declared: write the words, then draw once Plotly, which stands last in the page, is there.

writeHeader();
writeClaimBox();
writeTiles();
writeQuestions();
setUpControls();
writeTable();
writeDetail();
writeExperts();
writeCard();
setUpTheme();
document.addEventListener("DOMContentLoaded", setUpFigures);
